"""Which pictures to keep."""
