"""Access specs: a floor of requests that must be allowed, a ceiling of regions in which none may be, and their check."""
