"""Who may do what: policy documents, access control lists, and the decision over them. Pure."""
