"""What a Hall tells the outside about decisions."""
