RUN: object
