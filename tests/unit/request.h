/* A request without a server: its head is read from text, its body is what the test puts there.
   Include httpsbind.h before. */
#ifndef TESTS_UNIT_REQUEST_H
#define TESTS_UNIT_REQUEST_H

typedef struct lone_request { hsb__loop loop; hsb_request req; hsb_error why; } lone_request;

static inline void lone_schedule(hsb_conn *conn)
{
    (void)conn;
}

/* False: the head is malformed, or not whole; there is nothing to close then. */
static inline bool lone_open(lone_request *lone, const char *head, size_t head_len, const char *body,
                             size_t body_len)
{
    static const hsb__head_limits limits = { 1 << 20, 1 << 20, 1000 };
    hsb_request *req = &lone->req;
    int outcome = HSB__HEAD_SPACE;
    memset(lone, 0, sizeof *lone);
    lone->loop.pool.memory = &lone->loop.memory;
    lone->loop.options = hsb__options_resolve(NULL);
    hsb__request_init(req, &lone->loop, NULL, &lone->why, lone_schedule);
    hsb__head_start(&req->head, &limits);
    bool good = hsb__buffer_append(&req->text, head, head_len);
    while (good && outcome == HSB__HEAD_SPACE) {
        outcome = hsb__head_parse(&req->head, hsb__buffer_data(&req->text), head_len);
        good = outcome != HSB__HEAD_SPACE || hsb__request_more_fields(req);
    }
    if (good && outcome == HSB__HEAD_DONE && hsb__buffer_append(&req->kept, body, body_len)) {
        req->received = (int64_t)body_len;
        req->receiving = HSB__END;
        req->opened = true;
        return true;
    }
    hsb__request_reset(req);
    hsb__pool_close(&lone->loop.pool);
    return false;
}

/* What its memory holds now. */
static inline size_t lone_given(const lone_request *lone)
{
    return lone->req.arena ? lone->req.arena->given : 0;
}

/* How many bytes are still allocated: must be none. */
static inline size_t lone_close(lone_request *lone)
{
    hsb__request_reset(&lone->req);
    hsb__pool_close(&lone->loop.pool);
    return lone->loop.memory.used;
}

#endif
