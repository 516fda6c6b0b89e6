/* Inner loop of objects.pyx. */
#ifndef OCTOBEV_OBJECTS_H
#define OCTOBEV_OBJECTS_H

#include "vector.h"

/* Whether any of the numbers is above a threshold: most stretches of a heat map need no closer look. */
OCTOBEV_CLONES
static int any_above(const float *numbers, ptrdiff_t count, float threshold)
{
    int any = 0;
    for (ptrdiff_t i = 0; i < count; i++)
        any |= numbers[i] > threshold;
    return any;
}

#endif
