"""What browsers ask for: forms, websites, and leave to ask from another origin."""
