"""Values of the gguf package's fields."""


def text_of(field):
    return bytes(field.parts[field.data[0]]).decode()


def texts_of(field):
    return [bytes(field.parts[at]).decode() for at in field.data]


def number_of(field, index=0):
    return field.parts[field.data[index]][0]
