"""Root keys, tenant keys, data keys: wrap and unwrap."""
