"""What people read in the terminal: tables and charts of what the packages return, with rich."""
