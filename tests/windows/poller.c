/* The poller over a WSAPoll that reports hang-ups as Windows does, which Wine does not: POLLHUP
   for a FIN, in every turn and whatever is asked for.  Ends with 0 if all is well. */
#include <winsock2.h>
#include <windows.h>

static SOCKET hung = INVALID_SOCKET;    /* this one has got its FIN                      */
static SHORT what_hung;
static int polls;

static int windows_poll(WSAPOLLFD *fds, ULONG n, int timeout_ms)
{
    int extra = 0;
    for (ULONG i = 0; i < n; i++)
        extra += fds[i].fd == hung;
    polls++;
    int ready = WSAPoll(fds, n, extra ? 0 : timeout_ms);
    for (ULONG i = 0; i < n; i++)
        if (fds[i].fd == hung) {
            ready += !fds[i].revents;
            fds[i].revents |= what_hung;
        }
    return ready;
}

#define WSAPoll windows_poll
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

static unsigned got[2];
static hsb__watch watches[2];

static void ready(hsb__watch *w, unsigned events)
{
    got[w - watches] |= events;
}

/* Polls for so long, and returns what_hung long it took. */
static int turn(hsb__poller *p, int ms)
{
    const uint64_t begin = hsb__os_now_us();
    memset(got, 0, sizeof got);
    polls = 0;
    hsb__poller_collect(p, ms);
    hsb__poller_dispatch(p);
    return (int)((hsb__os_now_us() - begin) / 1000);
}

#define CHECK(x) do { if (!(x)) return fprintf(stderr, "%d: %s\n", __LINE__, #x), 1; } while (0)

int main(void)
{
    hsb__memory memory;
    hsb__poller p;
    hsb__wake bells[2];
    hsb_error err;
    memset(&memory, 0, sizeof memory);
    CHECK(hsb__poller_open(&p, &memory, &err));
    for (int i = 0; i < 2; i++) {
        CHECK(hsb__wake_open(&bells[i]));
        watches[i].fd = bells[i].read_fd;
        watches[i].ready = ready;
        CHECK(hsb__poller_add(&p, &watches[i], HSB__READ));
    }
    CHECK(turn(&p, 0) < 1000 && !got[0] && !got[1]);

    /* a FIN is READ, and not BROKEN, in every turn that wants it */
    hung = (SOCKET)bells[0].read_fd;
    what_hung = POLLHUP;
    for (int i = 0; i < 3; i++)
        CHECK(turn(&p, 1000) < 900 && got[0] == HSB__READ && !got[1]);

    /* one that nobody asks for neither ends the wait nor keeps the processor busy */
    CHECK(hsb__poller_set(&p, &watches[0], 0));
    for (int i = 0; i < 3; i++)
        CHECK(turn(&p, 300) >= 290 && !got[0] && !got[1] && polls < 40);
    hsb__wake_ring(&bells[1]);
    CHECK(turn(&p, 1000) < 900 && !got[0] && got[1] == HSB__READ);
    hsb__wake_hush(&bells[1]);

    /* what it waits for besides still comes, and so does an end that is no FIN */
    CHECK(hsb__poller_set(&p, &watches[0], HSB__WRITE));
    CHECK(turn(&p, 1000) < 900 && got[0] == HSB__WRITE);
    CHECK(hsb__poller_set(&p, &watches[0], 0));
    CHECK(turn(&p, 100) >= 90 && !got[0]);
    CHECK(hsb__poller_set(&p, &watches[0], HSB__READ));
    CHECK(turn(&p, 1000) < 900 && got[0] == HSB__READ);
    CHECK(hsb__poller_set(&p, &watches[0], 0));
    CHECK(turn(&p, 100) >= 90 && !got[0]);
    what_hung = POLLHUP | POLLERR;
    CHECK(turn(&p, 1000) < 900 && got[0] == HSB__BROKEN);

    /* it can be dropped, and the other one alone goes on */
    hsb__poller_drop(&p, &watches[0]);
    hsb__wake_ring(&bells[1]);
    CHECK(turn(&p, 1000) < 900 && !got[0] && got[1] == HSB__READ);
    hsb__poller_drop(&p, &watches[1]);
    CHECK(turn(&p, 100) >= 90);
    hsb__poller_close(&p);
    for (int i = 0; i < 2; i++)
        hsb__wake_close(&bells[i]);
    puts("poller");
    return 0;
}
