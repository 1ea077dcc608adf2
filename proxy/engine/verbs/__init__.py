"""What the server asks for, in S3's verbs."""
