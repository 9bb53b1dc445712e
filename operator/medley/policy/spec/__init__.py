"""Access specs: requests that must be allowed (floor), regions in which none may be (ceiling), and their check."""
