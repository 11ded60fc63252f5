"""Labels of pictures: attributes, their origin, taggers and label completion."""
