/* The OpenAPI document of what is served. Private to api/. */
#ifndef OPENAPI_H
#define OPENAPI_H

#include "base/buf.h"

void openapi_render(struct buf *b);

#endif
