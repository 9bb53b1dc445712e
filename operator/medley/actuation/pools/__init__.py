"""Pool providers, one file each: how a pool gets its nodes. `external` needs none: something else brings them."""
