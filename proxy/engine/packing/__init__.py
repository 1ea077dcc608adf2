"""Small bodies, carried to the stores together."""
