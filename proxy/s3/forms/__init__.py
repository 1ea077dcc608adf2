"""Browser forms: uploads by POST, with the policy that signs them."""
