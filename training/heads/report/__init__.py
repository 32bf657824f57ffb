"""What people see of a version: the files of its report, learning curves and confusion matrices."""
