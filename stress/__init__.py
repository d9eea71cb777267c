"""What the project's own tests are too short for: attacks, crashes and crowds, at full size."""
