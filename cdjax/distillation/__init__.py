"""Collaborative distillation: how compressed networks are trained from a teacher."""
