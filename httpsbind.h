/* httpsbind.h 0.2.0 - binds a port and serves HTTPS from it, on BearSSL.

   #define HTTPSBIND_IMPLEMENTATION
   #include "httpsbind.h"

   static void answer(hsb_request *req, void *user)
   {
       (void)user;
       hsb_respond(req, 200, "text/plain", hsb_text("Hello over HTTPS\n"));
   }

   int main(void)
   {
       hsb_serve_desc desc = { .options.hooks.on_request = answer };
       return hsb_serve(&desc);
   }

   Build     cc hello.c -lbearssl           (Debian: apt-get install libbearssl-dev)
   Does not  HTTP/2, compression, ACME, OCSP, Windows.  No cipher, hash, curve or big-number
             arithmetic of its own.
   Licence   MIT, at the end of the file.

   CONTENTS (search for the tag)
     >>tour            a request from accept to close
     >>hooks           which hook, when, what it may do
     >>statuses        which errors the server answers by itself, and what to do
     >>limits          limits and deadlines: what the client sees
     >>memory-rules    copied, borrowed, owned
     >>threads         what may be called from where
     >>performance     where the time goes, and the memory
     >>defaults        every option that is left zero
     >>build           switches, standards, BearSSL versions
     >>api             all that a user calls
   How it works, bottom-up
     >>config          build macros' defaults, includes, checks
     >>platform        the only code that knows the system
     >>process         threads, standard descriptors, signals
     >>memory          allocator, wiping, pool of blocks
     >>arena           memory that is released all at once
     >>list            lists whose links are part of their elements
     >>text            ASCII, tokens, numbers, dates
     >>buffer          the byte queue
     >>error           status texts, filling an hsb_error
     >>timer           deadlines
     >>address         addresses and host names: parse, print, compare
     >>resolver        names to addresses
     >>poller          epoll, kqueue, poll
     >>listener        sockets that listen, and who shares them
     >>inbox           what other threads leave for the server
     >>der             reading and writing DER
     >>pem             PEM text to DER objects
     >>folder          keys and certificates that outlive a restart
     >>key             private keys
     >>x509            what a certificate says
     >>trust           what makes one certificate believable
     >>chain           files of certificates: chains, trust anchors, names
     >>crl             revocation lists
     >>selfsigned      writing certificates: a server's own, and what a CA signs
     >>localca         a CA of this machine
     >>security        identities, the session cache
     >>hello           reading a ClientHello
     >>choice          which identity, suite and signature; which session
     >>verify          the chain of a client's certificate
     >>secrets         the key schedule of TLS 1.3
     >>record          records of both versions
     >>tls12           handshakes of TLS 1.2, by BearSSL's engine
     >>shake13         handshakes of TLS 1.3: their state, messages out
     >>resume13        tickets and pre-shared keys
     >>tls13           the server's side of a handshake of TLS 1.3
     >>tls             TLS of one connection
     >>loop            what the connections of a server share
     >>head            request line and fields
     >>body            length and chunked framing in
     >>multipart       the parts of a form's body
     >>outgoing        what waits to be sent
     >>frame           status line, fields, chunks out
     >>peers           how many connections each peer address has
     >>proxy           PROXY headers: the client of a proxy
     >>channel         what requests and streams have in common
     >>request         the request object
     >>response        the answer: states, framing
     >>files           files and folders as answers
     >>stream          after detach: bytes only
     >>websocket       RFC 6455 over a stream
     >>http1           what a connection receives as HTTP/1
     >>conn            the state machine: moving bytes, ends, deadlines
     >>server          accept, inbox, closing, one turn of the loop
     >>public          the hsb_ functions of all that is above
     >>values          what a request says, decoded; its memory; secrets
     >>forms           forms with files: the parts of a request's body
     >>route           a table of methods and paths
     >>answers         formatted answers, pages of the program, the access log
     >>serve           a whole program in one call
     >>changes         versions, and what is promised
     >>licence         MIT                                                              */

/* ===== >>tour ====================================================================
   You make a security (certificates and keys), bind a server with it, and give the server
   a thread: call hsb_server_run, or hsb_server_poll from a loop of your own.  Everything
   else happens in hooks.  hsb_serve does all three, and ends at Ctrl-C; by hand this is

   int main(void)
   {
       hsb_error err;
       hsb_security_desc desc = { .self_signed_for = "localhost" };
       hsb_options options = { .hooks.on_request = answer };
       hsb_security *security = hsb_security_new(&desc, &err);
       hsb_server *server = security
           ? hsb_bind_secure("localhost", 8443, security, &options, &err) : NULL;
       if (!server)
           return fprintf(stderr, "%s\n", err.text), 1;
       return hsb_server_run(server, &err) ? 0 : 1;
   }

   The way of a request.  What the header does is in the middle; your code is on the right:

     client                          server                            your hooks
     connect ----------------------> accept -------------------------> on_accept         1
     ClientHello ... Finished <----> TLS handshake ------------------> on_handshake      2
     request line, fields ---------> parsed, limits checked ---------> on_head           3
     body -------------------------> kept; or, if you asked for it --> on_body           4
                                     the request is whole -----------> on_request        5
     status, fields, body <--------- TLS records <---- queue <-------- hsb_respond ...
                                     the queue is short again -------> on_drain          6
                                     the last byte has left ---------> on_finish         7
     next request -----------------> ... again from 3 on                                 8
     close_notify, FIN <-----------> the end ------------------------> on_close          9

   1  Refuse here by address: return false, and the client sees the connection end.
   2  Who the client is: hsb_conn_tls has the name that it asked for, and its certificate.
   3  Answer now (401, 413, a redirect), ask for the body in parts (hsb_request_stream, or
      hsb_request_multipart for a form), or do nothing.
   4  Only after hsb_request_stream.  Otherwise the server keeps the body for step 5.
   5  Answer with hsb_respond, or with hsb_response_begin, _write and _end; or take a ticket
      (hsb_request_defer) and answer from another thread; or leave HTTP (hsb_request_detach,
      hsb_request_websocket).
   6  Only if you wrote faster than the client reads: then _write has returned HSB_FLOW_WAIT.
   7  Once for each on_head, also if the connection failed.  The request ends here.
   8  On the same connection, unless one side has asked to close it (keep-alive).
   9  Once for each on_accept, with the reason.

   Three small state machines decide what a connection does; >>conn and >>request list their
   states.  A malformed request or a failed handshake is reported to on_error and ends its
   own connection, no other.  A client that just disconnects is reported to on_finish and
   on_close only. */

/* ===== >>hooks ===================================================================
   All hooks are optional.  They are called on the server's thread, from hsb_server_run,
   _poll or _free, and never from inside another call of yours: hsb_respond, for example,
   queues bytes and returns.  Two exceptions: misuse is reported to on_error from inside the
   call that was wrong, and on_error_page is called from inside a call that answers with an
   error.  A hook must not block, because the whole server waits for it.

     hook          called when                       you may                    next
     on_accept     a client has connected            refuse: return false       on_handshake
     on_handshake  TLS is ready: see hsb_conn_tls    refuse: return false       on_head
     on_head       a request's head has arrived      answer, stream, defer      on_body, on_request
     on_body       part of a streamed body arrived   answer, pause              on_body, on_request
     on_request    the whole request has arrived     answer, begin, defer,      on_drain, on_finish
                                                     detach
     on_drain      you may write again               write, end                 on_drain, on_finish
     on_finish     the request is over; once for     read it for the last       on_head, on_close
                   each on_head                      time; not answer
     on_close      the connection is over; once      read it for the last       none
                   for each on_accept                time
     on_error      something went wrong              log it                     no change
     on_error_page the server answers by itself with give it another body       no change
                   a status of 400 or more
     on_wake       hsb_server_wake was called        do anything                no change

   On a plain connection on_head follows on_accept.
   With options.proxy_protocol on_accept is called after the PROXY header, so that
   hsb_conn_peer is the client.  A connection without a good header is reported to on_error,
   with NULL for the connection, and no other hook gets it.
   Answered in on_head: on_request is not called for that request, with one exception.  If
   on_head or on_body began an answer and asked for the body in parts, on_request reports
   the end of the body.
   Not answered when on_request returns, with no ticket open and no hsb_request_after
   pending: the client gets a 500, and on_error gets HSB_ERR_MISUSE with the method and the
   target.
   Refused by the server itself (>>statuses): on_error gets the status that was sent.  If on_head
   was not called yet, no hook of a request is.  If it was, on_finish follows, and an answer of
   yours that comes later is dropped.
   After on_finish the request's pointer is invalid, after on_close the connection's.  Do not
   call hsb_server_run, _poll or _free from a hook. */

/* ===== >>statuses ================================================================
   The statuses that the server sends by itself, and what to do about them.  For all of 400
   and more on_error_page may give the body, but for the answer to plain HTTP on a TLS port.

   To a request that it refuses.  on_error gets the status and the exact reason, such as "400
   Bad Request: two Host fields", and the connection ends after the answer.  If you had begun
   an answer in parts already, there is no status: the connection is cut.
     400  The request is malformed.  Two parsers could read it in two ways, or the client is
          broken; no option makes the parser lax.  Also: a body that is no valid form, after
          hsb_request_multipart or _next_part.  Plain HTTP on a TLS port gets a 400 without
          TLS, for which no hook of a request is called: set redirect_port of hsb_serve.
     408  The head or the body came too slowly: timeouts.head, timeouts.body, limits.rate.
     413  The body is over limits.body_bytes, or limits.stream_bytes if you asked for parts;
          or a form has too many parts or too large a part head: hsb_multipart_hooks.  For large
          uploads ask for parts in on_head, rather than keep them.
     414  The target is over limits.target_bytes.
     417  Expect asks for something else than 100-continue.
     431  The head is over limits.head_bytes or limits.head_fields; the same for trailers.
          Often it is a heap of cookies.
     501  Transfer-Encoding is not chunked.
     505  The version is neither HTTP/1.0 nor HTTP/1.1.

   Instead of an answer that you owe.  The connection goes on.
     500  on_request returned, and nobody is going to answer: no ticket, no timer.  on_error gets
          HSB_ERR_MISUSE with method and target.  Or what you asked for cannot be sent: a status
          outside 200..999, a type or location with a control character, a text of
          hsb_respondf that cannot be made.

   From the functions that choose a status.  The connection goes on; no error is reported.
     206  hsb_respond_file, _dir, _content: the range that was asked for.
     304  The same: the client's copy is still good.
     308  hsb_respond_dir: a folder whose path has no '/' at its end, or redirect_port.
     401  hsb_respond_unauthorized.
     403  hsb_respond_file, _dir: the process may not read the file; look at its mode and user.
     404  The same: there is no such file, or it is outside the folder, or it is no file.
     405  The same and _content: the method is neither GET nor HEAD.  hsb_request_route: the
          path exists, but not with that method.
     412  The same functions: a condition (If-Match, If-Unmodified-Since) does not hold.
     414  hsb_respond_dir: the name with a '/' is too long for a redirect.
     415  hsb_request_multipart, _next_part: the body has another type.
     416  No byte of the range exists.
     400  hsb_request_websocket: not a handshake; 426: another version of WebSocket than 13.
     503  hsb_respond_file, _dir: out of memory or of descriptors.  Raise the limit of open files
          (ulimit -n), or lower limits.connections.

   What is no status: a handshake that fails ends with an alert, and on_error says why.  If
   memory runs out while an answer is made, the connection is cut: HSB_ERR_MEMORY. */

/* ===== >>limits ==================================================================
   Limits and deadlines: what the client sees when it meets one, and what your program is
   told.  >>defaults has the numbers.  While it is your turn no deadline runs: a client never
   loses its connection because you take long.

     option               the client sees                        on_close, on_finish get
     timeouts.handshake   the connection ends, without an alert  HSB_ERR_TIMEOUT *
     timeouts.head        408, and the end                       HSB_ERR_TIMEOUT *
     timeouts.body        408, and the end; if you had begun an  HSB_ERR_TIMEOUT *
                          answer in parts, a cut
     timeouts.write       the connection ends within the answer  HSB_ERR_TIMEOUT *
     timeouts.idle        close_notify, between two requests; it HSB_ERR_TIMEOUT
                          asks again on a new connection
     timeouts.close       nothing: it has the whole answer       as before
     timeouts.shutdown    a cut, if its request takes longer     HSB_ERR_SHUTDOWN
     timeouts.stream      close_notify; a WebSocket that answers HSB_ERR_TIMEOUT, to the
                          pings stays open                       stream's or socket's on_close
     limits.connections   it waits until there is room; or, if   HSB_ERR_LIMIT
                          it is idle itself or has sent
                          nothing, its connection ends
     limits.per_address   the connection ends before TLS         only on_error: HSB_ERR_LIMIT
     limits.requests      Connection: close with the last one    HSB_OK
     limits.target_bytes  414, and the end                       HSB_ERR_LIMIT *
     limits.head_bytes    431, and the end                       HSB_ERR_LIMIT *
     limits.head_fields   431, and the end                       HSB_ERR_LIMIT *
     limits.body_bytes    413, and the end; at once if           HSB_ERR_LIMIT *
                          Content-Length says that it is more
     limits.stream_bytes  the same; if you had begun an answer   HSB_ERR_LIMIT *
                          in parts, a cut
     limits.queued_bytes  nothing: you get HSB_FLOW_WAIT.  A     HSB_ERR_LIMIT *
                          cut at 16 times as many
     limits.request_bytes what you answer when a function        no error
                          returned NULL, absent or false
     limits.rate          as timeouts.body and .write            HSB_ERR_TIMEOUT *
     message_bytes of a   a Close frame with 1009                code 1009, to the socket's
     WebSocket                                                   on_close
     session_cache_bytes  a full handshake instead of a resumed  no error
     *  on_error gets it, too.

   A cut is an end that no client takes for the end of a whole answer.  What the client still
   sends of a body that nobody wants is read and dropped, up to 64 KiB if the connection is to
   go on; beyond that it ends after the answer.
   A limit of -1 is no limit.  Do not lift timeouts.handshake, .head, .body and .write together
   with limits.connections: the slow ones would keep all descriptors. */

/* ===== >>memory-rules ============================================================
   Every pointer in this API is one of three kinds:

     copied      you may change or free it as soon as the call returns
     borrowed    it belongs to whoever gave it; valid until the moment named after the word
     owned       it is yours; release it with the function named after the word

   All memory of a server comes from options.allocator, all memory of a security from
   desc.allocator.  hsb_server_memory returns how many bytes a server has allocated.  A
   server that has warmed up allocates nothing per request.  Keys, session secrets and all
   that was received or sent are wiped when their memory is released.

   A request has memory of its own, for you and for what hsb_request_format and others
   return: see hsb_request_alloc.  It needs no release, it is gone after on_finish, and
   limits.request_bytes bounds it. */

/* ===== >>threads =================================================================
   One thread runs a server.  The server, its connections, requests and streams may be used
   on that thread only.  These functions may be called from any thread:

     hsb_server_close   hsb_server_wake            also from a signal handler
     hsb_server_post    hsb_ticket_resume   hsb_ticket_drop   hsb_stream_ticket_resume
     hsb_security_new   hsb_security_free   hsb_lookup, and every function without an object

   To use several threads, set hsb_serve_desc.threads; or run one server on each, bound with
   options.shared to the same address, port and v6_only, and with the same security.  The
   system spreads connections over them.  A security never changes, except for its session
   cache, which has a lock.
   The allocator of a server is also called on other threads: by hsb_server_post, and by the
   use of its last ticket if that comes after hsb_server_free.  The allocator of a security
   is called on the thread of every server that uses it.
   After fork() a child may call exec or use the inherited descriptors, and nothing else of
   this header. */

/* ===== >>performance =============================================================
   A small exchange on a connection that is kept alive costs one recv, one send and one wait
   in the poller.  Four fifths of its time are spent in the kernel, and half of the rest in
   the cipher.  All connections read into one shared buffer, answers are written straight
   into the buffer that is encrypted, and several TLS records leave with one send.
   A full handshake is dominated by elliptic curves: two X25519 operations and one ECDSA
   signature take nine tenths of its ten million instructions.  Resumption saves the
   signature, and in TLS 1.2 the X25519 too: then half a million are left.
   An idle connection holds its own state and 1 KB of TLS state, less than 3 KB together;
   BearSSL's engine of TLS 1.2 is needed for the handshake only.  The cost of timers,
   accepting, waking, names and sessions does not grow with their number, except for cache
   misses.
   `make bench` measures all of this. */

/* ===== >>defaults ================================================================
   An option that is zero takes its default; -1 means no limit.  Times are milliseconds.

     timeouts.handshake   10 000     limits.connections   1 024 (fewer if the process may not
     timeouts.head        10 000                          open so many descriptors)
     timeouts.body        30 000     limits.target_bytes  8 192
     timeouts.write       30 000     limits.head_bytes    16 384
     timeouts.idle       120 000     limits.head_fields   100
     timeouts.close        2 000     limits.body_bytes    1 048 576
     timeouts.shutdown    30 000     limits.stream_bytes  no limit
     timeouts.stream     300 000     limits.queued_bytes  65 536
     backlog           SOMAXCONN     limits.rate          512 bytes a second
                                     limits.requests      no limit
                                     limits.per_address   no limit
                                     limits.request_bytes  1 048 576 */

/* ===== >>build ===================================================================
     HTTPSBIND_IMPLEMENTATION   define it in one .c file of the program, before the include
     HTTPSBIND_STATIC           or this: everything becomes static in this file.  Servers of
                                two such files cannot share a port
     HSB_ASSERT(x)              default assert(x).  A misuse fails with x as the text that
                                says what was wrong
     HSB_MALLOC, HSB_FREE       default malloc and free
     HSB_USE_POLL               use poll(2) even if epoll or kqueue is available
     HSB_NO_THREADS             no locks: use one thread only, and no function from another

   The implementation is C99 or later, the API part also C++11.  With -std=c99 (not gnu99)
   include httpsbind.h before any system header, or compile with -D_GNU_SOURCE; a compile
   error says so if it is needed.  On 32-bit systems the same is true of
   -D_FILE_OFFSET_BITS=64.  It needs BearSSL 0.6 or later; compile with the headers of the
   library that you link.                                                               */

#ifndef HTTPSBIND_H
#define HTTPSBIND_H
#if defined(HTTPSBIND_IMPLEMENTATION) || defined(HTTPSBIND_STATIC)
#  ifndef _GNU_SOURCE
#    define _GNU_SOURCE 1     /* before the first system header: see >>config             */
#  endif
#  ifndef _FILE_OFFSET_BITS
#    define _FILE_OFFSET_BITS 64        /* files beyond 2 GiB also where off_t has 32 bits  */
#  endif
#  if !defined(_TIME_BITS) && _FILE_OFFSET_BITS == 64
#    define _TIME_BITS 64               /* dates after 2038 also where time_t has 32 bits   */
#  endif
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ===== >>api =====================================================================
   >>memory-rules explains copied, borrowed and owned.  A function that is marked
   [any thread], or that takes no object, may be called on any thread; all others only on
   the thread that runs the server: see >>threads.  An option that is zero takes the default
   in parentheses beside it.                                                               */

#ifndef HSB_API
#  ifdef HTTPSBIND_STATIC
#    define HSB_API static __attribute__((unused))
#  else
#    define HSB_API extern
#  endif
#endif

/* Has the compiler check the arguments of a function like printf; empty where it cannot.  */
#ifndef HSB_PRINTF
#  ifdef __GNUC__
#    define HSB_PRINTF(text, first) __attribute__((format(printf, text, first)))
#  else
#    define HSB_PRINTF(text, first)
#  endif
#endif

#define HSB_VERSION        "0.2.0"
#define HSB_VERSION_NUMBER 200            /* major * 10000 + minor * 100 + patch */

/* Every file that includes this refers to a symbol of this version, so that two
   versions of the header in one program are a link error.                         */
#if !defined(HTTPSBIND_STATIC) && defined(__GNUC__)
extern const char hsb_version_0_2_0;
static const char *const hsb__version_used __attribute__((used)) = &hsb_version_0_2_0;
#endif

typedef struct hsb_security hsb_security; /* certificates, keys, trust; immutable, counted */
typedef struct hsb_server   hsb_server;   /* listening sockets and their loop    */
typedef struct hsb_conn     hsb_conn;     /* one connection                      */
typedef struct hsb_request  hsb_request;  /* one request and its response        */
typedef struct hsb_stream   hsb_stream;   /* a connection that left HTTP         */

/* Text or bytes: an address and a length, with no NUL at the end.  ptr is NULL only
   if there is no such text ("absent"), so an empty field value and a missing field
   are not the same.                                                             */
typedef struct hsb_str { const char *ptr; size_t len; } hsb_str;
HSB_API hsb_str hsb_text(const char *nul_terminated);          /* NULL: absent    */
HSB_API bool    hsb_equal(hsb_str a, const char *b);
HSB_API bool    hsb_equal_nocase(hsb_str a, const char *b);    /* ASCII only      */

/* --- errors ------------------------------------------------------------------
   A function that can fail for reasons outside your code returns a bool, a number
   or a pointer, and fills *err; err may be NULL.
   Misuse is a bug in your code: a NULL that is not allowed, or a call in the wrong
   state.  HSB_ASSERT fails with a text that names the call and what was wrong.
   With assertions off the call does nothing and returns zero, false, absent or NULL
   (-1 if that is its word for "none", HSB_FLOW_GONE if it returns a flow).  The
   text goes with HSB_ERR_MISUSE into *err.  A function without err reports it to
   on_error, if it got a server, a request or a stream and belongs to its thread.  */
#define HSB_STATUS_LIST(X) \
    X(OK,            "no error") \
    X(ERR_MISUSE,    "call not allowed here") \
    X(ERR_MEMORY,    "out of memory") \
    X(ERR_SYSTEM,    "system call failed") \
    X(ERR_LOOKUP,    "host name did not resolve") \
    X(ERR_SHARED,    "port already bound here, and not shared by both") \
    X(ERR_PEM,       "no usable PEM object") \
    X(ERR_CERT,      "certificate cannot be used") \
    X(ERR_KEY,       "private key cannot be used") \
    X(ERR_TLS,       "TLS failure") \
    X(ERR_HTTP,      "malformed HTTP") \
    X(ERR_LIMIT,     "limit exceeded") \
    X(ERR_TIMEOUT,   "timed out") \
    X(ERR_CLOSED,    "closed by peer") \
    X(ERR_SHUTDOWN,  "server is closing")
#define HSB_STATUS_ENUM(name, text) HSB_##name,
typedef enum hsb_status { HSB_STATUS_LIST(HSB_STATUS_ENUM) HSB_STATUS_COUNT } hsb_status;
#undef HSB_STATUS_ENUM

typedef struct hsb_error {
    hsb_status status;
    int        system_code;     /* errno, or EAI_* with HSB_ERR_LOOKUP; 0: none    */
    int        tls_code;        /* BR_ERR_* with HSB_ERR_TLS, _CERT, _KEY; 0: none */
    char       text[160];       /* one line that names the file, host or limit    */
} hsb_error;
HSB_API const char *hsb_status_text(hsb_status status);    /* the list's; never NULL */

/* --- addresses ---------------------------------------------------------------------------- */
#define HSB_LOOPBACK_IP_V4 "127.0.0.1"
#define HSB_LOOPBACK_IP_V6 "::1"
#define HSB_ANY_IP_V4      "0.0.0.0"
#define HSB_ANY_IP_V6      "::"             /* IPv4 too, unless options.v6_only              */
typedef enum hsb_family { HSB_FAMILY_ANY, HSB_IPV4, HSB_IPV6, HSB_UNIX } hsb_family;
typedef struct hsb_address {
    hsb_family family;
    uint8_t    bytes[16];       /* network order; IPv4 uses the first four                   */
    uint32_t   scope_id;        /* IPv6 link-local zone                                      */
    uint16_t   port;            /* host order; 0: none                                       */
    char       path[110];       /* HSB_UNIX: of the socket's file, with a NUL; "" is the usual
                                   one of a client, "@name" an abstract one of Linux         */
} hsb_address;
#define HSB_ADDRESS_TEXT_MAX 120            /* with the NUL                                  */

/* Reads "192.0.2.1", "2001:db8::1", "[::1]" or "fe80::1%eth0", without a port.  False: not
   a numeric address; *out is unchanged.                                                     */
HSB_API bool        hsb_address_parse(hsb_address *out, const char *numeric);
/* Writes "192.0.2.1:443" or "[fe80::1%eth0]:443"; if the port is 0, "::1".  A Unix socket is
   "unix:/run/app.sock", and a client's usually just "unix:".  Returns buf.                  */
HSB_API const char *hsb_address_text(const hsb_address *a, char buf[HSB_ADDRESS_TEXT_MAX]);
/* Asks the system's resolver; this blocks, perhaps for seconds.  family is none, HSB_IPV4 or
   HSB_IPV6.  Returns how many addresses it stored in out, at most max; 0: failed, with
   HSB_ERR_LOOKUP.                                                             [any thread]  */
HSB_API int         hsb_lookup(const char *host, hsb_family family,
                               hsb_address *out, int max, hsb_error *err);

/* --- security ------------------------------------------------------------------------------- */
/* PEM from a file or from memory: set one of the two.  Zero: none.                           */
typedef struct hsb_pem { const char *path; hsb_str text; } hsb_pem;
HSB_API hsb_pem hsb_pem_file(const char *path);
HSB_API hsb_pem hsb_pem_text(const char *nul_terminated);

typedef struct hsb_identity {   /* a certificate chain and its private key                   */
    const char *server_name;    /* the name that clients ask for: "www.example.org", or
                                   "*.example.org" for one label in place of the star; NULL:
                                   the names in the certificate                              */
    hsb_pem     chain, key;     /* the server's own certificate comes first in chain.  Keys are
                                   EC P-256, -384, -521 or RSA of 2048..4096 bits, as PKCS#1,
                                   SEC1, PKCS#8, or encrypted PKCS#8 (PBES2)                 */
    const char *password;       /* of an encrypted key; else NULL                            */
} hsb_identity;

typedef enum hsb_ciphers {
    HSB_CIPHERS_MODERN,         /* ECDHE with AES-GCM or ChaCha20-Poly1305                   */
    HSB_CIPHERS_COMPATIBLE      /* the same and ECDHE with AES-CBC, for old clients          */
} hsb_ciphers;

typedef enum hsb_tls_versions {
    HSB_TLS_1_2_AND_1_3, HSB_TLS_1_3_ONLY, HSB_TLS_1_2_ONLY
} hsb_tls_versions;

/* Set both functions or none.  They must not call back into this header.  alloc returns
   memory that is aligned as malloc's is, or NULL if there is none; release gets the size
   that was asked for.                                      (HSB_MALLOC and HSB_FREE)         */
typedef struct hsb_allocator {
    void *(*alloc)(size_t size, void *user);
    void  (*release)(void *ptr, size_t size, void *user);
    void  *user;
} hsb_allocator;

typedef struct hsb_security_desc {           /* everything in it is copied                   */
    hsb_identity        identity;            /* the default one; or instead of it:           */
    const char         *self_signed_for;     /* this name or address gets a new P-256 key and
                                                certificate at each call                     */
    const char *const  *self_signed_names;   /* more names and addresses for it; NULL-ended  */
    const char         *local_ca;            /* a folder: its CA signs the certificate of
                                                self_signed_for, which is then the same after a
                                                restart.  A client that trusts the folder's
                                                ca.pem accepts every server that uses it.  What
                                                is missing is made: the folder with mode 0700,
                                                the CA for ten years, a certificate for 397
                                                days.  It is made anew when the names change or
                                                30 days are left.  Whoever can read ca.key can
                                                be any server to these clients               */
    const hsb_identity *identities;          /* more of them; the name that the client asks
                                                for chooses.  An EC and an RSA one may have
                                                the same name                                */
    int                 identity_count;
    hsb_pem             trusted;             /* verifies client certificates: CAs, and single
                                                clients' own certificates, each of which admits
                                                that client.  See >>verify                   */
    hsb_pem             revoked;             /* revocation lists (CRLs) of the CAs in trusted
                                                and below them; if set, each of these CAs must
                                                have a current one                           */
    hsb_pem             client_authorities;  /* CAs whose names clients are sent   (trusted) */
    const char *const  *alpn;                /* NULL-ended, preferred first     ("http/1.1") */
    hsb_tls_versions    versions;
    hsb_ciphers         ciphers;             /* of TLS 1.2                                   */
    int                 session_cache_bytes; /* for resumption; -1: none         (1 048 576) */
    int                 session_seconds;     /* a session resumes for so long, at most 86 400
                                                                                     (3 600) */
    hsb_str             ticket_key;          /* 32 secret bytes: every security that has the same
                                                ones, on any machine, resumes the others' sessions
                                                (TLS 1.3; not of clients with a certificate).
                                                Absent: sessions resume in this process only  */
    bool              (*ml_kem_768)(const uint8_t key[1184], uint8_t ciphertext[1088],
                                    uint8_t secret[32], void *user);    /* encapsulation (FIPS
                                                203) by a library of yours: the group
                                                X25519MLKEM768 is offered, and preferred.  False:
                                                the handshake fails                [any thread] */
    void               *ml_kem_user;
    void              (*on_key_log)(const char *line, void *user);     /* lines of SSLKEYLOGFILE,
                                                to read traffic with Wireshark: they give every
                                                secret away                        [any thread] */
    void               *key_log_user;
    hsb_allocator       allocator;           /* called on every thread that uses the security */
} hsb_security_desc;

/* NULL: failed with HSB_ERR_PEM, _CERT, _KEY, _MEMORY or _SYSTEM (no randomness); the text
   names the file and the reason.  A security never changes, so servers on several threads
   may share it.  Each server counts as a user of it: you may free yours right after the
   bind.  Owned: hsb_security_free.                                            [any thread]  */
HSB_API hsb_security *hsb_security_new(const hsb_security_desc *desc, hsb_error *err);
HSB_API void          hsb_security_free(hsb_security *security);   /* NULL is fine [any thread] */
/* SHA-256 (32 bytes) and PEM text of the certificate that clients get if no name matches: to
   print its fingerprint, or to pin or trust it.  Borrowed: until hsb_security_free.          */
HSB_API const uint8_t *hsb_security_sha256(const hsb_security *security);
HSB_API hsb_str        hsb_security_pem(const hsb_security *security);

/* --- hooks: see >>hooks ---------------------------------------------------------------------- */
/* Errors and parts are borrowed: this call.                                                    */
typedef struct hsb_hooks {
    void *user;                                              /* last argument of every hook     */
    bool (*on_accept)   (hsb_conn *, void *user);            /* false: close it                 */
    bool (*on_handshake)(hsb_conn *, void *user);            /* false: close it                 */
    void (*on_close)    (hsb_conn *, const hsb_error *why, void *user); /* HSB_OK: cleanly      */
    void (*on_error)    (hsb_server *, hsb_conn *or_null, const hsb_error *, void *user);
    void (*on_wake)     (hsb_server *, void *user);
    void (*on_head)     (hsb_request *, void *user);
    void (*on_body)     (hsb_request *, hsb_str part, void *user);
    void (*on_request)  (hsb_request *, void *user);
    void (*on_drain)    (hsb_request *, void *user);
    void (*on_finish)   (hsb_request *, const hsb_error *or_null, void *user);
                                            /* NULL: the whole answer was sent                  */
    void (*on_error_page)(int status, const char *reason, const char **type, hsb_str *body,
                          void *user);      /* the server itself answers with this status of 400
                                               or more, perhaps before there is a request.  reason
                                               is the status's phrase: "Not Found".  Put your own
                                               page into *type and *body, or leave them.  The body
                                               is copied after the hook has returned, so it must
                                               not be an array within it                         */
} hsb_hooks;

/* --- binding ---------------------------------------------------------------------------------- */
typedef struct hsb_timeouts {   /* milliseconds; -1: no limit                                   */
    int handshake;              /* from accept to the end of the handshake, and of the PROXY header
                                   before it                                       (10 000)     */
    int head;                   /* from a head's first byte to its last; then 408  (10 000)     */
    int body;                   /* no byte of a body arrives for so long, or after the first such
                                   period it is slower than limits.rate: 408       (30 000)     */
    int write;                  /* the same for a client that reads too slowly: the connection is
                                   cut                                             (30 000)     */
    int idle;                   /* a connection waits for its next request         (120 000)    */
    int close;                  /* how long to wait for the peer's close after our last byte.  A
                                   peer that still sends a body gets timeouts.body in addition, as
                                   a reset could destroy our answer before it is read (2 000)   */
    int shutdown;               /* after so long hsb_server_close(false) becomes (true) (30 000) */
    int stream;                 /* a detached stream or a WebSocket ends when no byte went in either
                                   direction for so long, pauses not counted.  A WebSocket pings its
                                   peer after a third of it                        (300 000)    */
} hsb_timeouts;

typedef struct hsb_limits {     /* -1: no limit                                                 */
    int      connections;       /* a new one closes the one that has been idle longest; if none is
                                   idle, it waits in the backlog
                                   (1 024; fewer if the process may not open so many descriptors) */
    int      target_bytes;      /* of a request's target; more: 414                (8 192)      */
    int      head_bytes;        /* of request line and fields together; more: 431.  The same limit
                                   holds for the trailers and the chunk extensions of a body
                                                                                   (16 384)     */
    int      head_fields;       /* fields in a head; more: 431                     (100)        */
    int64_t  body_bytes;        /* of a body that is kept for on_request; more: 413 (1 048 576) */
    int64_t  stream_bytes;      /* of a body that goes to on_body; more: 413       (none)       */
    int      queued_bytes;      /* written and not sent yet; more: HSB_FLOW_WAIT   (65 536)     */
    int      rate;              /* bytes a second: see timeouts.body and .write    (512)        */
    int      requests;          /* on one connection; it closes after the last     (none)       */
    int      per_address;       /* connections of one peer address, which for IPv6 is a /64; more
                                   are closed when they are accepted, and reported to on_error.
                                   A Unix socket's clients have no address and no such limit
                                                                                   (none)       */
    int      request_bytes;     /* of hsb_request_alloc and all else that lives in a request's
                                   memory, for one request                         (1 048 576)  */
} hsb_limits;

typedef struct hsb_options {                   /* everything in it is copied                     */
    int           backlog;                     /* connections waiting for accept   (SOMAXCONN)  */
    bool          v6_only;                     /* "::" does not accept IPv4                     */
    bool          shared;                      /* servers with the same address and port, all of
                                                  them with this option, share connections.  They
                                                  must agree in v6_only, in TLS or plain, in
                                                  proxy_protocol and in the next two: else
                                                  HSB_ERR_SHARED                                */
    bool          request_client_certificate;  /* ask for one; none is accepted too             */
    bool          require_client_certificate;  /* ask for one; without it the handshake fails   */
    bool          no_keep_alive;               /* close after each response                     */
    bool          proxy_protocol;              /* every connection begins with a PROXY header,
                                                  version 1 or 2, before TLS: see >>proxy.  Then
                                                  hsb_conn_peer, limits.per_address and on_accept
                                                  get the client that it names.  Only for a port
                                                  that nobody reaches but the proxy: whoever does
                                                  can name any address                          */
    const char   *server_header;               /* value of the Server field        (none sent)  */
    hsb_timeouts  timeouts;
    hsb_limits    limits;
    hsb_allocator allocator;
    hsb_hooks     hooks;
} hsb_options;

/* Binds, listens and returns.  Clients may connect from now on; they wait until the server
   runs.  host is a numeric address, or a name: then the first address that the resolver gives
   is bound.  port is 0..65535.  0: the system picks one (never 65535), see hsb_server_port.
   Or host is "unix:" and a path: a Unix socket, whose port is ignored and 0.  Its mode comes from
   the umask of the process.  A socket file that nobody listens on any more is replaced; one with
   a server behind it, and any file that is not a socket, is an error.  The file is removed when
   the server stops accepting, if it is still the same one.  Abstract sockets ("unix:@name") are
   refused: they have no mode, so everybody on the machine could connect.
   options may be NULL.  The thread that binds need not be the one that runs the server.
   NULL: failed with HSB_ERR_LOOKUP, _SYSTEM ("bind 127.0.0.1:443: Permission denied"), _SHARED
   (options.shared with a Unix socket, too),
   _CERT (client certificates are asked for, but security trusts nobody), _MEMORY or _MISUSE.
   Owned: hsb_server_free.                                                                     */
HSB_API hsb_server *hsb_bind_secure(const char *host, int port, hsb_security *security,
                                    const hsb_options *options, hsb_error *err);
HSB_API hsb_server *hsb_bind_secure_at(const hsb_address *address, hsb_security *security,
                                       const hsb_options *options, hsb_error *err);
/* fd is a TCP or Unix socket that already listens: inherited, or passed by a service manager.  If
   this succeeds the server owns fd, but a Unix socket's file is not removed; if it fails fd is
   still yours.                                                                                 */
HSB_API hsb_server *hsb_bind_secure_fd(int fd, hsb_security *security,
                                       const hsb_options *options, hsb_error *err);
/* HTTP without TLS, with the same hooks: for a redirect to the secure port, or a health check. */
HSB_API hsb_server *hsb_bind(const char *host, int port,
                             const hsb_options *options, hsb_error *err);
/* Adds a listening socket to a server, with the same options; NULL security: without TLS.
   Returns its index, 1 or more (the first one of the server has 0).  -1: failed, with the errors
   of hsb_bind_secure, or HSB_ERR_SHUTDOWN after a close.                                       */
HSB_API int         hsb_server_listen(hsb_server *server, const char *host, int port,
                                      hsb_security *security_or_null, hsb_error *err);
HSB_API int         hsb_server_listen_at(hsb_server *server, const hsb_address *address,
                                         hsb_security *security_or_null, hsb_error *err);
HSB_API int         hsb_server_listen_fd(hsb_server *server, int fd,
                                         hsb_security *security_or_null, hsb_error *err);

/* --- server ------------------------------------------------------------------------------- */
/* Runs the server on this thread.  Returns true after hsb_server_close, when the last connection
   has ended.  False: HSB_ERR_MISUSE.                                                            */
HSB_API bool        hsb_server_run(hsb_server *server, hsb_error *err);
/* For a loop of your own.  Wait until hsb_server_fd is readable, but no longer than
   hsb_server_timeout milliseconds; then call hsb_server_poll(server, 0), and ask for the timeout
   again.  Calls that you make between two polls make the descriptor readable if they leave work
   to do.  hsb_server_poll waits for at most timeout_ms (-1: no limit).  It returns how many
   events it handled; -1: the server is closed and its last connection has ended.                */
HSB_API int         hsb_server_poll(hsb_server *server, int timeout_ms);
HSB_API int         hsb_server_fd(const hsb_server *server);        /* -1: with HSB_USE_POLL      */
HSB_API int         hsb_server_timeout(const hsb_server *server);   /* -1: wait without a limit   */
/* Stops accepting and closes idle connections, the next time the server's loop runs.  false: open
   requests are finished first, and detached streams may go on for timeouts.shutdown.  true: all
   connections are cut.                                       [any thread] [signal handler]       */
HSB_API void        hsb_server_close(hsb_server *server, bool force);
/* on_wake is called the next time the server's loop runs; once, even after several of these
   calls.                                                     [any thread] [signal handler]       */
HSB_API void        hsb_server_wake(hsb_server *server);
/* Must not be called from a hook.  NULL does nothing.  Open connections are cut: on_finish and
   on_close are called for them, and the functions of resumed tickets and of posts.               */
HSB_API void        hsb_server_free(hsb_server *server);
HSB_API void        hsb_server_set_user(hsb_server *server, void *user);        /* NULL at first  */
HSB_API void       *hsb_server_user(const hsb_server *server);
/* As bound, with the port that the system picked; zero: no such listener.                        */
HSB_API hsb_address hsb_server_address(const hsb_server *server, int listener);
HSB_API int         hsb_server_port(const hsb_server *server);          /* of listener 0          */
HSB_API hsb_options hsb_server_options(const hsb_server *server);       /* with the defaults      */
/* Renewal: new handshakes of that listener use this security; -1: of every listener that has one.
   Open connections keep the old one.  False: HSB_ERR_CERT (client certificates are asked for, but
   it trusts nobody) or HSB_ERR_MISUSE; nothing has changed.                                      */
HSB_API bool        hsb_server_set_security(hsb_server *server, int listener,
                                            hsb_security *security, hsb_error *err);
/* The server is closing, from the turn on that follows hsb_server_close: an answer without an end
   of its own, such as server-sent events, should end now.                                        */
HSB_API bool        hsb_server_closing(const hsb_server *server);
/* How many are open: total is the sum of the others.                                             */
typedef struct hsb_connections {
    int total, handshaking, active, idle, closing, detached;
} hsb_connections;
HSB_API hsb_connections hsb_server_connections(const hsb_server *server);
HSB_API size_t          hsb_server_memory(const hsb_server *server);       /* bytes allocated     */
/* Calls fn(server, arg) on the server's thread after delay_ms, or soon if that is 0.  true: fn is
   called exactly once, at the latest by hsb_server_free.  False: out of memory, or the server is
   being freed; fn is never called.  The server must exist during this call (a ticket has no such
   rule).                                                                          [any thread]   */
HSB_API bool        hsb_server_post(hsb_server *server, int delay_ms,
                                    void (*fn)(hsb_server *, void *arg), void *arg);

/* --- a whole program ---------------------------------------------------------------------- */
/* hsb_serve binds, prints "listening on https://..." to standard output when it is ready, and
   returns after the end what main returns: 0, or 1 if it could not start, with the reason on
   standard error.
   SIGINT or SIGTERM: as hsb_server_close(false), and then on_wake is called, in which
   hsb_server_closing is true; a second one: as hsb_server_close(true).
   SIGHUP: reads the files of desc->security again.  Open connections keep the old certificate;
   if the new files cannot be used, all keep it, and standard error says why.  Without files
   SIGHUP is left alone.
   Sockets that systemd has passed (sd_listen_fds(3)) are used instead of host and port; one that
   has redirect_port redirects.
   It is the only function of this header that touches the process: it takes these signals and
   SIGPIPE until it returns, opens /dev/null for standard descriptors that are closed, and starts
   threads if it is asked for more than one, or for redirects.  A reader of its output that stops
   never holds it up.  Borrowed: desc and all in it, until it returns.  One call at a time.      */
typedef struct hsb_serve_desc {
    const char       *host;         /* as hsb_bind_secure, also "unix:/path"; "localhost":
                                       127.0.0.1 and ::1
                                                                                  ("localhost") */
    int               port;         /* -1: the system picks one                         (8443)  */
    int               redirect_port;    /* a port of the same host without TLS: every request is
                                       redirected (308) to the host that it names, at the first
                                       port.  Your hooks do not see it.  -1: as port    (none)  */
    int               threads;      /* so many servers share the port, each on its own thread, and
                                       hooks of several run at the same time; 1..64     (1)     */
    hsb_security_desc security;     /* without an identity: self-signed, for host               */
    hsb_options       options;      /* without on_error: errors go to standard error            */
    void            (*on_ready)(hsb_server *, hsb_security *, void *user);  /* for each server,
                                       before the line is printed and before any of them runs, on
                                       the thread of the call; user is options.hooks.user.  The
                                       security is borrowed: this call                          */
} hsb_serve_desc;
HSB_API int hsb_serve(const hsb_serve_desc *desc);

/* --- connection --------------------------------------------------------------------------- */
typedef struct hsb_certificate {     /* borrowed: until on_close                                  */
    hsb_str der;                     /* the certificate itself                                    */
    hsb_str subject, issuer;         /* RFC 4514 text: "CN=ann,O=Example"                         */
    hsb_str serial;                  /* big-endian bytes; with issuer it names one certificate    */
    int64_t not_before, not_after;   /* seconds since 1970, UTC                                   */
    uint8_t sha256[32];              /* of der: names one file.  Never refuse by it: whoever holds
                                        the key can change the file and keep it valid             */
    uint8_t key_sha256[32];          /* of SubjectPublicKeyInfo: names one key                    */
    const hsb_str *names;            /* subjectAltName: DNS, mail, URI and IP, as text            */
    int     name_count;
} hsb_certificate;
typedef struct hsb_tls_info {        /* borrowed: until on_close                                  */
    unsigned        version;         /* 0x0303 is TLS 1.2, 0x0304 is TLS 1.3                      */
    unsigned        suite;           /* number in IANA's list of cipher suites                    */
    const char     *suite_name;      /* name in that list                                         */
    const char     *group;           /* of the key exchange: "x25519", "secp256r1" or
                                        "X25519MLKEM768"; "": TLS 1.2 was resumed                 */
    const char     *signature;       /* our scheme: "ecdsa_secp256r1_sha256"; "": resumed         */
    const char     *alpn;            /* the agreed protocol; NULL: none                           */
    const char     *server_name;     /* the name that the client asked for; "": none              */
    bool            resumed;         /* without certificates and signatures                       */
    const hsb_certificate *client;   /* verified; NULL: not asked for, or not sent                */
} hsb_tls_info;
HSB_API hsb_server         *hsb_conn_server(const hsb_conn *conn);
/* The client; with options.proxy_protocol the one that the header names.  local is always the
   address that was connected to.                                                                 */
HSB_API hsb_address         hsb_conn_peer(const hsb_conn *conn);
HSB_API hsb_address         hsb_conn_local(const hsb_conn *conn);
/* NULL: a connection without TLS, or before on_handshake.                                        */
HSB_API const hsb_tls_info *hsb_conn_tls(const hsb_conn *conn);
HSB_API uint64_t            hsb_conn_id(const hsb_conn *conn);  /* 1, 2, 3 ... within a server    */
HSB_API void                hsb_conn_set_user(hsb_conn *conn, void *user);      /* NULL at first  */
HSB_API void               *hsb_conn_user(const hsb_conn *conn);
/* Ends a connection.  false: after the answer to the request at hand; true: cuts.  on_close is
   called from the loop, not from inside this call.                                               */
HSB_API void                hsb_conn_close(hsb_conn *conn, bool force);

/* --- request ------------------------------------------------------------------------------ */
/* Every hsb_str that these return is borrowed: until on_finish.                                  */
HSB_API hsb_conn *hsb_request_conn(const hsb_request *req);
HSB_API hsb_str   hsb_request_method(const hsb_request *req);
HSB_API hsb_str   hsb_request_target(const hsb_request *req);   /* as sent (RFC 9112 3.2)         */
HSB_API hsb_str   hsb_request_host(const hsb_request *req);  /* the target's host, else Host's    */
HSB_API hsb_str   hsb_request_path(const hsb_request *req);     /* before the '?', not decoded    */
HSB_API hsb_str   hsb_request_query(const hsb_request *req);    /* after the '?'; absent: no '?'  */
HSB_API int       hsb_request_minor_version(const hsb_request *req);    /* HTTP/1.0: 0; 1.1: 1    */
/* The value of the first field of that name; upper and lower case are the same.  Absent: no such
   field.  _at gives one after the other, i = 0, 1, 2 ...; false: there are no more.  Trailers
   exist from on_request on.                                                                      */
HSB_API hsb_str   hsb_request_header(const hsb_request *req, const char *name);
HSB_API bool      hsb_request_header_at(const hsb_request *req, int i,
                                        hsb_str *name, hsb_str *value);
HSB_API bool      hsb_request_trailer_at(const hsb_request *req, int i,
                                         hsb_str *name, hsb_str *value);
/* The value of the first cookie of that name (RFC 6265 4.2); absent: no such cookie.             */
HSB_API hsb_str   hsb_request_cookie(const hsb_request *req, const char *name);
/* In bytes; -1: chunked, so the length is not known yet; 0: empty, or no body.                   */
HSB_API int64_t   hsb_request_content_length(const hsb_request *req);
/* Only from on_head: the body goes to on_body in parts.  Otherwise it is kept for on_request.    */
HSB_API void      hsb_request_stream(hsb_request *req);
/* What is kept of the body; absent: it was streamed.  Before on_request there is only the part that
   has arrived, and it is borrowed until the hook returns.                                        */
HSB_API hsb_str   hsb_request_body(const hsb_request *req);
HSB_API bool      hsb_request_keep_alive(const hsb_request *req);   /* as far as is known now     */
HSB_API int64_t   hsb_request_received(const hsb_request *req); /* bytes of the body, up to now   */
/* Microseconds since the first byte of the request arrived.                                      */
HSB_API int64_t   hsb_request_age_us(const hsb_request *req);
/* Stops reading the body until hsb_request_resume.  The client has to wait, and timeouts.body does
   not run.                                                                                       */
HSB_API void      hsb_request_pause(hsb_request *req);
HSB_API void      hsb_request_resume(hsb_request *req);
HSB_API void      hsb_request_set_user(hsb_request *req, void *user);       /* NULL at first      */
HSB_API void     *hsb_request_user(const hsb_request *req);
/* Calls fn(req, arg) on the server's thread after delay_ms.  A request that is not answered yet
   stays open until then.  The call is cancelled when the answer is complete, and at on_finish.
   False: out of memory, or the request is over.                                                  */
HSB_API bool      hsb_request_after(hsb_request *req, int delay_ms,
                                    void (*fn)(hsb_request *, void *arg), void *arg);

/* --- memory of a request ------------------------------------------------------------------ */
/* Memory that needs no release.  Borrowed: until on_finish has returned.  It may be asked for from
   on_head on, in on_finish too.  All pieces of a request, each rounded up to a multiple of 16, have
   limits.request_bytes together.
   hsb_request_alloc returns zeroed memory, aligned as malloc's is; size may be 0.  NULL: more than
   the limit, or out of memory.                                                                   */
HSB_API void     *hsb_request_alloc(hsb_request *req, size_t size);
/* Texts in that memory; a NUL that is not counted follows each of them.  Absent: as NULL above, or
   the text that was given is absent.
   _format is printf.  _html writes & < > " and ' as references, for the text of an element or an
   attribute's value in quotes.  _percent keeps the unreserved characters of RFC 3986 2.3, and
   writes every other byte as %XX: for a segment of a path, or a name or a value of a query.      */
HSB_API hsb_str   hsb_request_format(hsb_request *req, const char *format, ...) HSB_PRINTF(2, 3);
HSB_API hsb_str   hsb_request_html(hsb_request *req, hsb_str text);
HSB_API hsb_str   hsb_request_percent(hsb_request *req, hsb_str text);

/* --- what a request says ------------------------------------------------------------------ */
/* Decodes %XX, and if form is true also '+' for a space, into buf; adds a NUL.  in may be the
   contents of buf.  *len is the length without the NUL; len may be NULL.  False: malformed, a
   NUL in the text, or more than size - 1 bytes; buf is then "".                                  */
HSB_API bool      hsb_percent_decode(hsb_str in, bool form, char *buf, size_t size, size_t *len);
/* Splits "a=1&b=2": moves the first pair from *rest to *name and *value, which are not decoded and
   point into the same text.  False: *rest has no more pairs.                                     */
HSB_API bool      hsb_form_next(hsb_str *rest, hsb_str *name, hsb_str *value);
/* The first value of that name in the query, or in a kept body whose type is
   application/x-www-form-urlencoded: decoded, with '+' for a space, and a NUL after it.  It is in
   the request's memory; each call takes a new piece of that, as long as the value was sent.  It is
   bytes, not checked to be UTF-8.  Empty if the name has no '='.  Absent: no such name; malformed,
   or a NUL in it; no memory.  _form_value also: another type, or the body is not whole, which it is
   from on_request on.                                                                            */
HSB_API hsb_str   hsb_request_query_value(hsb_request *req, const char *name);
HSB_API hsb_str   hsb_request_form_value(hsb_request *req, const char *name);
/* Is that the Content-Type, whatever its parameters?  "text/html"; upper and lower case are the
   same.  False also if there are two such fields.                                                */
HSB_API bool      hsb_request_is_type(const hsb_request *req, const char *media_type);
/* User and password of HTTP Basic authentication (RFC 7617), in the request's memory, each with a
   NUL after it.  Compare the password with hsb_equal_secret.  False, and both are absent: no such
   field, or two; another scheme; not strict base64; no ':'; a control character; no memory.      */
HSB_API bool      hsb_request_basic_auth(hsb_request *req, hsb_str *user, hsb_str *password);
/* A name for a new file in a folder, made from what a client sent, in the request's memory, with a
   NUL after it.  Only what follows the last '/' or '\' counts, without dots and spaces at its start
   and end.  An underscore takes the place of a control or other hidden character, of each of
   < > : " | ? *, and of a byte that is not UTF-8.  One is put before a name that begins with '-',
   or that means a device on Windows ("con.txt").  A name of more than 255 bytes is cut before its
   extension.  "unnamed": nothing is left.  Absent: no memory.  Names that differ may become the
   same one: open the file so that this fails if it exists (O_EXCL).                              */
HSB_API hsb_str   hsb_request_safe_name(hsb_request *req, hsb_str file_name);

/* --- secrets ------------------------------------------------------------------------------ */
/* In a time that depends on the lengths only.  An absent text equals nothing, not even another
   absent one.                                                                     [any thread]   */
HSB_API bool        hsb_equal_secret(hsb_str a, hsb_str b);
/* Fills buf with random bytes of the system, fit for keys.  False: there are none, and buf must not
   be used.                                                                        [any thread]   */
HSB_API bool        hsb_random(void *buf, size_t size);
#define HSB_TOKEN_MAX 23                    /* with the NUL                                       */
/* 128 random bits as 22 letters, digits, '-' and '_': for a session or a CSRF token.  Returns buf;
   NULL: no randomness, and buf is "".                                             [any thread]   */
HSB_API const char *hsb_token(char buf[HSB_TOKEN_MAX]);

/* --- forms with files: multipart/form-data (RFC 7578) ---------------------------------------- */
/* One part of a form: a field, or a file.  In name and file_name the %22, %0D and %0A that browsers
   send for a quote, CR and LF are decoded, and nothing else: a backslash is a backslash.  A part
   that is not a file has no file_name (absent); a file input without a file has an empty one, and
   no data.  file_name is whatever the client says: it may hold folders, "..", CR and LF.  type is
   the part's Content-Type; absent: text/plain (RFC 7578 4.4).                                    */
typedef struct hsb_part { hsb_str name, file_name, type; } hsb_part;
typedef struct hsb_multipart_hooks {
    void *user;                             /* last argument of each                              */
    void (*on_part)(hsb_request *, const hsb_part *, void *user);   /* a part begins.  Borrowed:
                                               until its on_end                                   */
    void (*on_data)(hsb_request *, hsb_str bytes, void *user);      /* borrowed: this call        */
    void (*on_end) (hsb_request *, void *user);     /* the part is whole                          */
    int   parts;                            /* more: 413; -1: no limit                (100)       */
    int   head_bytes;                       /* of one part's head; more: 413          (8 192)     */
} hsb_multipart_hooks;
/* Streamed: only from on_head, once.  The body goes to these hooks as it arrives, not to on_body;
   hooks is copied.  A part may have any size: limits.stream_bytes bounds the body.  on_request is
   called after the last part.  In each of these hooks you may pause the request, or answer it;
   after a whole answer none of them is called again.
   False: the request is answered with 415 (the body has another type), 400 (no valid boundary) or
   500 (out of memory; head_bytes and some more count against limits.request_bytes), and an answer
   of yours does nothing.
   Later, a malformed body, or one without its last boundary, gets a 400, and on_error the reason.
   Then neither the on_end of the part at hand nor on_request is called: release what you hold in
   on_finish.                                                                                     */
HSB_API bool hsb_request_multipart(hsb_request *req, const hsb_multipart_hooks *hooks);
/* Kept: the next part of the body that hsb_request_body returns, from on_request on.  *rest must be
   zero at first.  Borrowed: until on_finish.  False: there are no more parts; or the body is not
   such a form, and the request was answered as above when you asked for the first part.  So you
   see the whole form or nothing of it.  It has at most 100 parts, with 8 192 bytes of head each. */
HSB_API bool hsb_request_next_part(hsb_request *req, hsb_str *rest, hsb_part *part, hsb_str *bytes);
/* --- routes ------------------------------------------------------------------------------- */
typedef struct hsb_route {      /* a row of a table; {0} ends the table                           */
    const char *method;         /* "GET": HEAD too; NULL: every method                            */
    const char *pattern;        /* "/users/:id"                                                   */
    void      (*handler)(hsb_request *, void *user);
} hsb_route;
/* Calls the handler of the first row that matches the method and the path.  True: it was called,
   or the request was answered.  False: no row matches, so answer yourself, for example with 404.
     text   matches itself, after both are decoded (RFC 3986 2.2): "%41" is "A", but "%2F" is not
            the '/' between two segments.  Upper and lower case differ, and "/users/" is another
            path than "/users".
     :name  at the start of a segment: matches one segment that is not empty.
     *name  at the start of the last segment: matches all that follows, perhaps nothing.
     *      as the whole pattern: matches the target of OPTIONS *.
   If the path matches rows of other methods only, the answer is 405, and to OPTIONS 204, each with
   an Allow field that lists these methods.  OPTIONS * gets those of the whole table.  A row of
   method OPTIONS or NULL comes before that.  Fields that were set before the call are part of these
   answers too.
   No row matches CONNECT, or a path that has a NUL or a segment "." or "..", encoded or not.  In a
   pattern, a name that is empty or comes twice, or a segment after '*', is misuse: the row does not
   match.  Keep all rows of one path in one table, or the first table answers 405 for the others.
   Patterns are borrowed: until on_finish.                                                        */
HSB_API bool        hsb_request_route(hsb_request *req, const hsb_route *routes, void *user);
/* What a name of the pattern stands for, decoded, in the request's memory.  It may contain any
   character but NUL, also a '/', so it is not the name of a file: see hsb_request_safe_name.
   hsb_respond_dir decodes by itself: give it hsb_request_path.  Absent: no such name, no pattern,
   or out of memory.                                                                              */
HSB_API hsb_str     hsb_request_param(hsb_request *req, const char *name);
/* The pattern of the row that matched, also if the answer was 405 or 204: for logs and metrics.
   NULL: none.                                                                                    */
HSB_API const char *hsb_request_pattern(const hsb_request *req);

/* --- response ----------------------------------------------------------------------------- */
/* Answer with one call (hsb_respond...), or with hsb_response_begin, any number of _write, and
   _end.  An answer may begin from on_head on, until on_finish is called.  Answering twice is
   misuse; code that keeps requests should first check that hsb_response_status(req) is 0.  All
   text and bytes are copied.
   The server itself writes Content-Length or chunks, Date and Connection.  It sends no body with
   204, with 304 and to HEAD, whatever you write.
   A status outside 200..999, or a 2xx to CONNECT, becomes an empty 500; hsb_request_detach
   answers CONNECT (RFC 9110 9.3.6).  After hsb_response_begin with such a status, _write returns
   HSB_FLOW_GONE.                                                                                 */

/* Adds a field, before the answer begins.  False: the answer has begun; or it is a field that the
   server writes (Content-Length, Transfer-Encoding, Connection, Keep-Alive, Date); or name is not
   a token; or value has a CR, LF, NUL or another control character; or out of memory.            */
HSB_API bool     hsb_response_header(hsb_request *req, const char *name, const char *value);
/* The same, with the value made by printf's rules.                                               */
HSB_API bool     hsb_response_headerf(hsb_request *req, const char *name, const char *format,
                                      ...) HSB_PRINTF(3, 4);

typedef enum hsb_same_site {
    HSB_SAME_SITE_LAX, HSB_SAME_SITE_STRICT, HSB_SAME_SITE_NONE
} hsb_same_site;
typedef struct hsb_cookie {     /* RFC 6265                                                       */
    const char   *name, *value, *path, *domain;     /* all but name may be NULL                   */
    int64_t       max_age;      /* seconds; 0: until the browser closes; -1: delete the cookie    */
    hsb_same_site same_site;
    bool          for_scripts;  /* without HttpOnly: scripts of the page can read it              */
    bool          not_secure;   /* without Secure: it is also sent over plain HTTP                */
} hsb_cookie;
/* Adds a Set-Cookie field, before the answer begins.  False: as hsb_response_header; or it has a
   character that a cookie must not have; or HSB_SAME_SITE_NONE with not_secure.                  */
HSB_API bool     hsb_response_cookie(hsb_request *req, const hsb_cookie *cookie);

/* The whole answer.  type is the value of Content-Type; NULL: none.  body is queued whole, and
   limits.queued_bytes does not bound it.                                                         */
HSB_API void     hsb_respond(hsb_request *req, int status, const char *type, hsb_str body);
/* The same, but body is not copied.  Borrowed: until release(arg).  That is called exactly once, at
   the latest before on_finish, perhaps before this returns.  release may be NULL.                */
HSB_API void     hsb_respond_owned(hsb_request *req, int status, const char *type, hsb_str body,
                                   void (*release)(void *arg), void *arg);
/* As hsb_respond, with the body made by printf's rules.  If it cannot be made: 500.              */
HSB_API void     hsb_respondf(hsb_request *req, int status, const char *type, const char *format,
                              ...) HSB_PRINTF(4, 5);
/* Asks for name and password of HTTP Basic authentication (RFC 7617): 401, with WWW-Authenticate.
   realm is what the browser shows; a control character in it: 500.                               */
HSB_API void     hsb_respond_unauthorized(hsb_request *req, const char *realm);
/* status is 301, 302, 303, 307 or 308; any other, or a location that cannot be sent: 500.        */
HSB_API void     hsb_respond_redirect(hsb_request *req, int status, const char *location);
/* One file.  Up to 64 KiB are read at once; what is larger is read while it is sent, and holds a
   descriptor until then.  type_or_null NULL: the type follows from the ending of path.  ETag and
   Last-Modified are sent; the conditions of RFC 9110 13 and Range (RFC 9110 14) are obeyed.
   Several ranges get the first one that covers the others, or the whole file.  If there is a
   path.gz that is not older, and the client accepts gzip, that is sent instead.  404 or 403: the
   file cannot be read; 405: the method is not GET or HEAD.  path is used as it is, so do not make
   it from what a client sent: hsb_respond_dir is for that.                                       */
HSB_API void     hsb_respond_file(hsb_request *req, const char *path, const char *type_or_null);
/* A file below the folder root, or the index.html of a folder there.  path is what hsb_request_path
   returns; it is decoded here.  A file outside root is never sent, not even by a symbolic link.  */
HSB_API void     hsb_respond_dir(hsb_request *req, const char *root, hsb_str path);

typedef struct hsb_content {    /* bytes of the program itself, such as an embedded page          */
    const char *type;           /* NULL: no Content-Type                                          */
    hsb_str     body;
    hsb_str     gzip;           /* the same, packed, for clients that accept gzip; absent: none   */
    const char *etag;           /* names this version: at most 64 characters, without the quotes.
                                   NULL: a hash of the bytes is made for each answer, at about 4
                                   bytes a nanosecond                                             */
    int64_t     modified;       /* seconds since 1970, for Last-Modified; 0: not known            */
} hsb_content;
/* Such bytes, with HEAD, conditions, ranges and the packed form as hsb_respond_file has them.  405:
   the method is not GET or HEAD.  body and gzip are not copied.  Borrowed: until on_finish.      */
HSB_API void     hsb_respond_content(hsb_request *req, const hsb_content *content);

/* GO:   the part is queued; you may write more.
   WAIT: the part is queued, but now more than limits.queued_bytes are; wait for on_drain.  If you
         go on, the connection is cut at 16 times as many, with HSB_ERR_LIMIT.
   GONE: the connection is ending, and the part was dropped.                                      */
typedef enum hsb_flow { HSB_FLOW_GO, HSB_FLOW_WAIT, HSB_FLOW_GONE } hsb_flow;
/* length is the number of bytes of the body; -1: not known, it is sent in chunks.  Writing more
   bytes than that cuts the connection.                                                           */
HSB_API void     hsb_response_begin(hsb_request *req, int status, int64_t length);
HSB_API hsb_flow hsb_response_write(hsb_request *req, hsb_str part);
/* The same with printf's rules.  A text that cannot be made cuts the connection.                 */
HSB_API hsb_flow hsb_response_writef(hsb_request *req, const char *format, ...) HSB_PRINTF(2, 3);
/* Sends what is queued in the next turn of the loop.  Inside a hook this is of no use: parts are
   sent as soon as the hook returns.                                                              */
HSB_API hsb_flow hsb_response_flush(hsb_request *req);
/* Before hsb_response_end.  False: as hsb_response_header, or a field that must come before the
   content (RFC 9110 6.5.1: Content-Type, Set-Cookie, Authorization and others).  It is sent if the
   body is chunked.                                                                               */
HSB_API bool     hsb_response_trailer(hsb_request *req, const char *name, const char *value);
/* If fewer bytes were written than promised, the connection is cut: the client must not think that
   the answer is complete.                                                                        */
HSB_API void     hsb_response_end(hsb_request *req);
HSB_API void     hsb_response_close(hsb_request *req);  /* the connection ends after this answer  */
HSB_API void     hsb_response_abort(hsb_request *req);  /* cuts: the client sees an error         */
HSB_API int      hsb_response_status(const hsb_request *req);   /* 0: no answer has begun         */
HSB_API int64_t  hsb_response_bytes(const hsb_request *req);    /* of the body, sent up to now    */
/* One line for an access log, from on_finish, in Apache's combined format: peer, time of arrival in
   UTC, request line, status, hsb_response_bytes, Referer, User-Agent.  What the client sent has its
   quotes, backslashes, controls and bytes above 126 escaped.  The user is always "-", because the
   server cannot know whether a name that was sent was accepted.  No line end.  Returns the length
   without the NUL, also if buf is too small and the line is cut, as snprintf does.               */
HSB_API int      hsb_request_log_line(const hsb_request *req, char *buf, size_t size);

/* --- answering later ---------------------------------------------------------------------- */
/* A ticket keeps a request open until you resume or drop it, from any thread.  It is a value and
   may be copied, but use it exactly once: an unused ticket is a leak.  It may be used once even
   after hsb_server_free.
   resume true:  fn is called on the server's thread exactly once, at the latest by hsb_server_free.
                 req is NULL if the request was answered or is over.  fn may always release arg.
   resume false: the ticket was used before, or the server is freed; fn is never called, and arg is
                 still yours.
   While the server exists a second use returns false; after hsb_server_free it is a use of freed
   memory.                                                                                        */
typedef struct hsb_ticket { void *inbox; uint64_t id; } hsb_ticket;  /* id 0: none, out of memory */
HSB_API hsb_ticket hsb_request_defer(hsb_request *req);
HSB_API bool       hsb_ticket_resume(hsb_ticket ticket,                           /* [any thread] */
                                     void (*fn)(hsb_request *req, void *arg), void *arg);
/* A request that nobody else will answer gets a 500.                                [any thread] */
HSB_API void       hsb_ticket_drop(hsb_ticket ticket);

/* --- leaving HTTP ------------------------------------------------------------------------- */
/* Sends an answer's head and turns the connection into a stream of bytes, over the same TLS and the
   same loop.  status is 101 for an HTTP/1.1 client that asked to upgrade, or 2xx for CONNECT.
   on_finish is called for the request as soon as the running hook returns.  hooks is copied.
   NULL: another status, a client that did not ask for it, a body that has not all arrived, or
   out of memory; the request is still unanswered.  Borrowed: until the stream's on_close.        */
typedef struct hsb_stream_hooks {
    void *user;
    void (*on_data) (hsb_stream *, hsb_str part, void *user);   /* borrowed: this call            */
    void (*on_end)  (hsb_stream *, void *user);     /* the peer sends no more.  Without TLS you
                                                       may still write; with TLS on_close follows
                                                       (RFC 5246 7.2.1)                           */
    void (*on_drain)(hsb_stream *, void *user);     /* you may write again                        */
    void (*on_close)(hsb_stream *, const hsb_error *or_null, void *user);
                                                    /* the last call; NULL: closed cleanly        */
} hsb_stream_hooks;
HSB_API hsb_stream *hsb_request_detach(hsb_request *req, int status, const hsb_stream_hooks *hooks);
HSB_API hsb_conn   *hsb_stream_conn(const hsb_stream *stream);
HSB_API hsb_flow    hsb_stream_write(hsb_stream *stream, hsb_str part);  /* as hsb_response_write */
HSB_API hsb_flow    hsb_stream_flush(hsb_stream *stream);
HSB_API void        hsb_stream_pause(hsb_stream *stream);       /* no on_data until resume        */
HSB_API void        hsb_stream_resume(hsb_stream *stream);
/* As hsb_request_after; on_close cancels it.                                                     */
HSB_API bool        hsb_stream_after(hsb_stream *stream, int delay_ms,
                                     void (*fn)(hsb_stream *, void *arg), void *arg);
/* A ticket for a stream; there may be several.  The rules are those of a request's ticket, but it
   does not keep the stream open.  fn gets NULL after on_close.                                   */
HSB_API hsb_ticket  hsb_stream_ticket(hsb_stream *stream);
HSB_API bool        hsb_stream_ticket_resume(hsb_ticket ticket,                   /* [any thread] */
                                             void (*fn)(hsb_stream *stream, void *arg), void *arg);
/* false: sends what is queued, then close_notify if there is TLS; true: cuts.                    */
HSB_API void        hsb_stream_close(hsb_stream *stream, bool force);

/* --- WebSocket (RFC 6455) ----------------------------------------------------------------- */
/* Messages over a connection that left HTTP.  The header answers pings and does the closing
   handshake.  There are no extensions.                                                           */
typedef struct hsb_websocket hsb_websocket;
typedef struct hsb_websocket_hooks {
    void *user;
    void (*on_message) (hsb_websocket *, bool text, hsb_str message, void *user);
                                            /* a whole message; text is checked to be UTF-8       */
    void (*on_fragment)(hsb_websocket *, bool text, hsb_str part, bool last, void *user);
                                            /* if set, called instead: parts, as they arrive      */
    void (*on_pong)    (hsb_websocket *, hsb_str payload, void *user);
                                            /* empty after a ping of the library's own: see
                                               timeouts.stream                                    */
    void (*on_drain)   (hsb_websocket *, void *user);           /* you may write again            */
    void (*on_close)   (hsb_websocket *, int code, hsb_str reason, void *user);
                                            /* last; the peer's code and reason.  1005: it sent
                                               none.  1006: it sent no Close frame, and reason
                                               says what happened (RFC 6455 7.1.5)                */
    const char *const *subprotocols;        /* NULL-ended, preferred first; copied    (none)      */
    int64_t            message_bytes;       /* a larger message is closed with 1009   (1 048 576) */
} hsb_websocket_hooks;
/* From on_head or on_request.  hooks is copied; messages and payloads are borrowed: that call.
   NULL: not a WebSocket handshake (answered 400, or 426 for another version), or out of memory
   (answered 500).  Borrowed: until on_close.                                                     */
HSB_API hsb_websocket *hsb_request_websocket(hsb_request *req, const hsb_websocket_hooks *hooks);
/* Its stream: for hsb_stream_conn, _after, _ticket and _pause, not to write.  What has been read
   already is still delivered after a pause.                                                      */
HSB_API hsb_stream    *hsb_websocket_stream(hsb_websocket *ws);
HSB_API const char    *hsb_websocket_subprotocol(const hsb_websocket *ws);  /* NULL: none agreed  */
HSB_API void           hsb_websocket_set_user(hsb_websocket *ws, void *user);
HSB_API hsb_flow       hsb_websocket_send(hsb_websocket *ws, bool text, hsb_str message);
HSB_API hsb_flow       hsb_websocket_send_part(hsb_websocket *ws, bool text, hsb_str part,
                                               bool last);
/* payload: at most 125 bytes.                                                                    */
HSB_API hsb_flow       hsb_websocket_ping(hsb_websocket *ws, hsb_str payload);
/* code is 1000..1003, 1007..1014 or 3000..4999 (RFC 6455 7.4).  With 0, and with the 1005 and 1006
   that on_close may get, no code is sent.  reason is UTF-8 and is cut after 123 bytes.           */
HSB_API void           hsb_websocket_close(hsb_websocket *ws, int code, hsb_str reason);

#ifdef __cplusplus
}
#endif
#endif /* HTTPSBIND_H */

#if (defined(HTTPSBIND_IMPLEMENTATION) || defined(HTTPSBIND_STATIC)) && !defined(HTTPSBIND_DONE)
#define HTTPSBIND_DONE

/* ===== >>config ==================================================================
   Purpose  build macros' defaults, includes, checks on what is assumed of C and BearSSL
   Uses     nothing
   Names    HSB_*, hsb__assert_*
   Tests    tests/compile                                                            */

#ifdef __cplusplus
#  error "httpsbind.h: the implementation is C; put it in one .c file and link that"
#endif
#if defined(_WIN32)
#  error "httpsbind.h: POSIX systems only"
#endif
#if defined(__clang__)      /* glibc 2.43 brings _Generic into our lines, by memchr and others    */
#  pragma clang diagnostic push
#  pragma clang diagnostic ignored "-Wc11-extensions"
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/file.h>

/* -std=c99 hides POSIX, and a feature macro cannot bring it back once a system header
   was read: httpsbind.h defines it for itself when it comes first.                   */
#if !defined(CLOCK_MONOTONIC) || !defined(AT_FDCWD) || !defined(AI_ADDRCONFIG) || \
    !defined(MAP_ANONYMOUS) || !defined(O_CLOEXEC)
#  error "httpsbind.h: include it before any system header, or compile with -D_GNU_SOURCE"
#endif

#include <bearssl.h>
#ifndef BR_PEM_LINE64               /* it came with 0.6, and no version number did         */
#  error "httpsbind.h: this BearSSL is older than 0.6"
#endif

#ifndef HSB_NO_THREADS
#  include <pthread.h>
#endif
#if defined(__linux__)
#  include <sys/eventfd.h>
#  include <sys/syscall.h>
#endif
#if defined(__APPLE__)
#  include <sys/random.h>
#endif
#if defined(__GNUC__) && !defined(__TINYC__) && (defined(__x86_64__) || defined(__i386__))
#  define HSB__CPUID 1
#  include <cpuid.h>
#endif
#if defined(__linux__) && !defined(HSB_USE_POLL) && !defined(HSB_USE_KQUEUE)
#  define HSB__EPOLL 1
#  include <sys/epoll.h>
#elif !defined(HSB_USE_POLL) && (defined(HSB_USE_KQUEUE) || defined(__APPLE__) || \
      defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__))
#  define HSB__KQUEUE 1
#  include <sys/event.h>
#else
#  define HSB__POLL 1
#endif

#ifndef HSB_ASSERT
#  include <assert.h>
#  define HSB_ASSERT(condition) assert(condition)
#endif
#ifndef HSB_MALLOC
#  define HSB_MALLOC(size) malloc(size)
#  define HSB_FREE(ptr) free(ptr)
#endif

/* The suite in tests/fault defines this: called with the name of the system call and
   the address of the byte count (or NULL), it returns an errno to fail with or 0, and
   may lower the count.                                                               */
#ifndef HSB_FAULT
#  define HSB_FAULT(call, count) ((void)(count), 0)
#endif

/* A value that was computed of secrets, and that anybody may know: tests/unit/timing.c, which
   watches over the others, defines this.                                             */
#ifndef HSB__PUBLIC
#  define HSB__PUBLIC(value) (value)
#endif

#ifdef HTTPSBIND_STATIC
#  define HSB__UNUSED __attribute__((unused))
#else
#  define HSB__UNUSED
#endif

#define HSB__ASSERT_STATIC(name, condition) typedef char hsb__assert_##name[(condition) ? 1 : -1]
HSB__ASSERT_STATIC(char_is_a_byte, CHAR_BIT == 8);
HSB__ASSERT_STATIC(int_has_32_bits, sizeof(int) >= 4);
HSB__ASSERT_STATIC(size_holds_unsigned, sizeof(size_t) >= sizeof(unsigned));
HSB__ASSERT_STATIC(files_are_large, sizeof(off_t) >= 8);   /* -D_FILE_OFFSET_BITS=64 */
HSB__ASSERT_STATIC(unix_paths_fit, sizeof ((struct sockaddr_un *)0)->sun_path <
                                   sizeof ((hsb_address *)0)->path);
HSB__ASSERT_STATIC(tls12_suites_fit, BR_MAX_CIPHER_SUITES >= 24);

/* ===== >>platform ================================================================
   Purpose  the only code that knows the system: clocks, entropy, locks, wake-up, sockets,
            name lookup, files, limits.  No other section but >>process and >>poller calls
            the system, or names a type or constant of its headers.  Each call that can fail asks
            HSB_FAULT first.
   Uses     nothing
   Names    hsb__os_*, hsb__mutex_*, hsb__atomic_*, hsb__wake_*, hsb__socket, hsb__facts
   Tests    tests/unit/platform.c, tests/fault                                       */

/* --- errors ---------------------------------------------------------------------------- */
/* Codes that other sections compare with or set themselves.                          */
enum {
    HSB__OS_NO_MEMORY      = ENOMEM,
    HSB__OS_NO_FILE        = ENOENT,
    HSB__OS_NO_DESCRIPTOR  = EMFILE,        /* this process has as many as it may have   */
    HSB__OS_NO_CALL        = ENOSYS,
    HSB__OS_BAD_DESCRIPTOR = EBADF,
    HSB__OS_INVALID        = EINVAL,
    HSB__OS_IN_USE         = EADDRINUSE,
    HSB__OS_LONG_NAME      = ENAMETOOLONG,
    HSB__OS_RESET          = ECONNRESET,
    HSB__OS_PIPE           = ESPIPE         /* the path names a pipe, not a file           */
};

/* Why the last call of this section failed.  Closing something does not change it.   */
static int hsb__os_error(void)
{
    return errno;
}

static void hsb__os_set_error(int code)
{
    errno = code;
}

static const char *hsb__os_error_text(int code)
{
    return strerror(code);
}

static bool hsb__os_would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK;
}

static bool hsb__os_was_interrupted(void)
{
    return errno == EINTR;
}

static bool hsb__os_is_denied(int code)
{
    return code == EACCES || code == EPERM;
}

/* The system, or this process, has run out of descriptors or memory for now.         */
static bool hsb__os_is_shortage(int code)
{
    return code == EMFILE || code == ENFILE || code == ENOMEM;
}

static bool hsb__os_fails(int fault)
{
    if (fault)
        errno = fault;
    return fault != 0;
}

/* --- clocks and randomness ------------------------------------------------------------- */
/* Monotonic microseconds: for deadlines and durations.  Never 0.                     */
static uint64_t hsb__os_now_us(void)
{
    struct timespec t = { 0, 0 };
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u + 1;
}

/* Seconds since 1970: for Date fields and certificates only.                         */
static int64_t hsb__os_wall(void)
{
    struct timespec t = { 0, 0 };
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec;
}

/* Whether the CPU says that AMD made it; false where it cannot be asked.              */
static bool hsb__os_cpu_is_amd(void)
{
#ifdef HSB__CPUID
    unsigned highest, b, c, d;
    return __get_cpuid(0, &highest, &b, &c, &d) && b == signature_AMD_ebx;
#else
    return false;
#endif
}

/* Random bytes of the system's generator, or false; len at most 256.                 */
static bool hsb__os_entropy(void *out, size_t len)
{
    if (hsb__os_fails(HSB_FAULT("getentropy", NULL)))
        return false;
    return getentropy(out, len) == 0;
}

/* --- locks and counters shared by threads ------------------------------------------ */
#ifdef HSB_NO_THREADS
typedef int hsb__mutex;
#  define HSB__MUTEX_INIT 0
static void hsb__mutex_init(hsb__mutex *m) { *m = 0; }
static void hsb__mutex_done(hsb__mutex *m) { (void)m; }
static void hsb__mutex_lock(hsb__mutex *m) { (void)m; }
static void hsb__mutex_unlock(hsb__mutex *m) { (void)m; }
#else
typedef pthread_mutex_t hsb__mutex;
#  define HSB__MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
static void hsb__mutex_init(hsb__mutex *m) { pthread_mutex_init(m, NULL); }
static void hsb__mutex_done(hsb__mutex *m) { pthread_mutex_destroy(m); }
static void hsb__mutex_lock(hsb__mutex *m) { pthread_mutex_lock(m); }
static void hsb__mutex_unlock(hsb__mutex *m) { pthread_mutex_unlock(m); }
#endif

static size_t hsb__atomic_add(size_t *counter, size_t n)
{
    return __atomic_add_fetch(counter, n, __ATOMIC_ACQ_REL);
}

static size_t hsb__atomic_sub(size_t *counter, size_t n)
{
    return __atomic_sub_fetch(counter, n, __ATOMIC_ACQ_REL);
}

static size_t hsb__atomic_get(const size_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

/* Flags that a signal handler may set: lock-free on every system we know.            */
static void hsb__atomic_set_flags(int *flags, int bits)
{
    __atomic_fetch_or(flags, bits, __ATOMIC_ACQ_REL);
}

static int hsb__atomic_flags(const int *flags)
{
    return __atomic_load_n(flags, __ATOMIC_ACQUIRE);
}

static int hsb__atomic_take_flags(int *flags)
{
    if (hsb__atomic_flags(flags) == 0)                      /* nearly always           */
        return 0;
    return __atomic_exchange_n(flags, 0, __ATOMIC_ACQ_REL);
}

/* --- descriptors ----------------------------------------------------------------------- */
typedef int hsb__socket;
#define HSB__NO_SOCKET (-1)

/* Sockets and files share their numbers here, but not on every system: files have
   hsb__os_close_file.  close() releases the descriptor on these systems even when it
   fails with EINTR.                                                                  */
static void hsb__os_close(hsb__socket s)
{
    int saved = errno;
    if (s >= 0)
        close(s);
    errno = saved;
}

static void hsb__os_close_file(int fd)
{
    hsb__os_close(fd);
}

/* Makes it non-blocking and close-on-exec.                                           */
static bool hsb__os_prepare(hsb__socket s)
{
    int flags = fcntl(s, F_GETFL);
    if (flags < 0 || fcntl(s, F_SETFL, flags | O_NONBLOCK) < 0)
        return false;
    flags = fcntl(s, F_GETFD);
    return flags >= 0 && fcntl(s, F_SETFD, flags | FD_CLOEXEC) == 0;
}

/* How many descriptors this process may have; INT_MAX: no limit that matters.        */
static int hsb__os_descriptor_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= (rlim_t)INT_MAX)
        return INT_MAX;
    return (int)files.rlim_cur;
}

/* A descriptor that another thread or a signal handler can make readable.            */
typedef struct hsb__wake { hsb__socket read_fd, write_fd; } hsb__wake;

static bool hsb__wake_open(hsb__wake *w)
{
    w->read_fd = w->write_fd = HSB__NO_SOCKET;
    if (hsb__os_fails(HSB_FAULT("wake", NULL)))
        return false;
#if defined(__linux__)
    w->read_fd = w->write_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->read_fd >= 0;
#else
    int fds[2];
    if (pipe(fds) < 0)
        return false;
    w->read_fd = fds[0];
    w->write_fd = fds[1];
    return hsb__os_prepare(fds[0]) && hsb__os_prepare(fds[1]);
#endif
}

static void hsb__wake_close(hsb__wake *w)
{
    hsb__os_close(w->read_fd);
    if (w->write_fd != w->read_fd)
        hsb__os_close(w->write_fd);
    w->read_fd = w->write_fd = HSB__NO_SOCKET;
}

/* Safe in a signal handler: one write, and errno is kept.  A full pipe is readable
   already.                                                                           */
static void hsb__wake_ring(const hsb__wake *w)
{
    int saved = errno;
    uint64_t one = 1;
    ptrdiff_t n;
    do
        n = write(w->write_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    errno = saved;
}

/* Returns when it was rung, or after a signal.                                        */
static void hsb__wake_wait(const hsb__wake *w)
{
    struct pollfd p = { w->read_fd, POLLIN, 0 };
    poll(&p, 1, -1);
}

/* No longer readable, however often it was rung.                                     */
static void hsb__wake_hush(const hsb__wake *w)
{
    char sink[64];
    while (read(w->read_fd, sink, sizeof sink) == (ptrdiff_t)sizeof sink)
        ;
}

/* --- addresses ------------------------------------------------------------------------- */
enum {
    HSB__IP_TEXT        = INET6_ADDRSTRLEN,     /* with the NUL                        */
    HSB__UNIX_PATH      = sizeof ((struct sockaddr_un *)0)->sun_path,   /* with the NUL  */
    HSB__INTERFACE_NAME = IF_NAMESIZE           /* with the NUL                        */
};

/* Writes 4 bytes of an IPv4 address, 16 of an IPv6 one; no zone, no brackets.        */
static bool hsb__os_ip_parse(hsb_family family, const char *text, uint8_t out[16])
{
    return inet_pton(family == HSB_IPV4 ? AF_INET : AF_INET6, text, out) == 1;
}

static void hsb__os_ip_print(hsb_family family, const uint8_t *bytes, char out[HSB__IP_TEXT])
{
    inet_ntop(family == HSB_IPV4 ? AF_INET : AF_INET6, bytes, out, HSB__IP_TEXT);
}

/* The number of an interface; 0: there is none of that name.                         */
static uint32_t hsb__os_interface_index(const char *name)
{
    return if_nametoindex(name);
}

static bool hsb__os_interface_name(uint32_t index, char out[HSB__INTERFACE_NAME])
{
    return if_indextoname(index, out) != NULL;
}

/* A peer that came over IPv4 is IPv4, also where the socket is "::" and the system says
   "::ffff:192.0.2.1" (RFC 4291 2.5.5.2): one peer has one address to log and to compare. */
static void hsb__os_from_sockaddr_v6(hsb_address *out, const struct sockaddr_in6 *sin6)
{
    out->port = ntohs(sin6->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
        out->family = HSB_IPV4;
        memcpy(out->bytes, sin6->sin6_addr.s6_addr + 12, 4);
    } else {
        out->family = HSB_IPV6;
        memcpy(out->bytes, sin6->sin6_addr.s6_addr, 16);
        out->scope_id = sin6->sin6_scope_id;
    }
}

/* The rest of *ss is zero.  A path may fill all of sun_path and has no NUL then; that of an
   abstract socket begins with one.                                                   */
static void hsb__os_from_sockaddr_unix(hsb_address *out, const struct sockaddr_un *un)
{
    out->family = HSB_UNIX;
    memcpy(out->path, un->sun_path, sizeof un->sun_path);
    if (out->path[0] == '\0' && out->path[1] != '\0')
        out->path[0] = '@';
}

/* Not one of the families that we know: *out is zero, HSB_FAMILY_ANY.                */
static void hsb__os_from_sockaddr(hsb_address *out, const struct sockaddr_storage *ss)
{
    memset(out, 0, sizeof *out);
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *sin = (const struct sockaddr_in *)ss;
        out->family = HSB_IPV4;
        out->port = ntohs(sin->sin_port);
        memcpy(out->bytes, &sin->sin_addr, 4);
    } else if (ss->ss_family == AF_INET6) {
        hsb__os_from_sockaddr_v6(out, (const struct sockaddr_in6 *)ss);
    } else if (ss->ss_family == AF_UNIX) {
        hsb__os_from_sockaddr_unix(out, (const struct sockaddr_un *)ss);
    }
}

/* The path is shorter than HSB__UNIX_PATH.                                           */
static socklen_t hsb__os_to_sockaddr_unix(const hsb_address *a, struct sockaddr_un *un)
{
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, a->path, sizeof un->sun_path);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->path) + 1);
}

static socklen_t hsb__os_to_sockaddr(const hsb_address *a, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof *ss);
    if (a->family == HSB_UNIX)
        return hsb__os_to_sockaddr_unix(a, (struct sockaddr_un *)ss);
    if (a->family == HSB_IPV4) {
        struct sockaddr_in *sin = (struct sockaddr_in *)ss;
        sin->sin_family = AF_INET;
        sin->sin_port = htons(a->port);
        memcpy(&sin->sin_addr, a->bytes, 4);
        return sizeof *sin;
    }
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(a->port);
    sin6->sin6_scope_id = a->scope_id;
    memcpy(&sin6->sin6_addr, a->bytes, 16);
    return sizeof *sin6;
}

/* --- looking names up ------------------------------------------------------------------ */
/* Codes of the resolver, which are not those of hsb__os_error.                       */
enum {
    HSB__LOOKUP_NO_NAME = EAI_NONAME,
    HSB__LOOKUP_MEMORY  = EAI_MEMORY,
    HSB__LOOKUP_SYSTEM  = EAI_SYSTEM        /* see hsb__os_error                        */
};

typedef enum hsb__lookup {
    HSB__LOOKUP_ALL,
    HSB__LOOKUP_NUMBER,         /* only numeric forms, the old ones included: no network  */
    HSB__LOOKUP_REACHABLE       /* only families that an interface has an address of      */
} hsb__lookup;

typedef struct addrinfo hsb__found;

/* 0 and a list for hsb__os_found_free, or a code.  May take seconds.                 */
static int hsb__os_lookup(const char *host, hsb__lookup which, hsb_family family,
                          hsb__found **list)
{
    struct addrinfo hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = family == HSB_IPV4 ? AF_INET : family == HSB_IPV6 ? AF_INET6 : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = which == HSB__LOOKUP_NUMBER ? AI_NUMERICHOST :
                     which == HSB__LOOKUP_REACHABLE ? AI_ADDRCONFIG : 0;
    if (hsb__os_fails(HSB_FAULT("getaddrinfo", NULL)))
        return EAI_SYSTEM;
    return getaddrinfo(host, NULL, &hints, list);
}

/* Stores the first address of a list in *out, as HSB_FAMILY_ANY if it is neither
   IPv4 nor IPv6.  Returns the rest of the list.                                      */
static const hsb__found *hsb__os_found_next(const hsb__found *list, hsb_address *out)
{
    struct sockaddr_storage ss;
    memset(&ss, 0, sizeof ss);
    if (list->ai_addrlen <= sizeof ss)
        memcpy(&ss, list->ai_addr, list->ai_addrlen);
    hsb__os_from_sockaddr(out, &ss);
    if (out->family == HSB_UNIX)
        memset(out, 0, sizeof *out);            /* no host's address                       */
    return list->ai_next;
}

static void hsb__os_found_free(hsb__found *list)
{
    freeaddrinfo(list);
}

/* Whether the name is unknown, or has no address of the families that were asked for.  */
static bool hsb__os_lookup_found_none(int code)
{
#ifdef EAI_NODATA
    if (code == EAI_NODATA)
        return true;
#endif
#ifdef EAI_ADDRFAMILY
    if (code == EAI_ADDRFAMILY)
        return true;
#endif
    return code == EAI_NONAME;
}

static const char *hsb__os_lookup_text(int code)
{
    return gai_strerror(code);
}

/* --- sockets that listen ----------------------------------------------------------------- */
/* Close-on-exec from the start where that can be had, because another thread may fork at
   any time.                                                                          */
static hsb__socket hsb__os_socket_of(int domain)
{
    if (hsb__os_fails(HSB_FAULT("socket", NULL)))
        return HSB__NO_SOCKET;
#ifdef SOCK_CLOEXEC
    return socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
#else
    return socket(domain, SOCK_STREAM, 0);
#endif
}

/* A non-blocking TCP or Unix socket.  TCP can be bound although old connections of its port
   are still in TIME-WAIT.                                                            */
static hsb__socket hsb__os_socket(hsb_family family, bool v6_only)
{
    int on = 1, only = v6_only;
    hsb__socket s = hsb__os_socket_of(family == HSB_UNIX ? AF_UNIX :
                                      family == HSB_IPV4 ? AF_INET : AF_INET6);
    if (s < 0)
        return HSB__NO_SOCKET;
    if (hsb__os_prepare(s) && setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (family != HSB_IPV6 ||
         setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0))
        return s;
    hsb__os_close(s);
    return HSB__NO_SOCKET;
}

static bool hsb__os_bind(hsb__socket s, const hsb_address *a)
{
    struct sockaddr_storage ss;
    socklen_t len = hsb__os_to_sockaddr(a, &ss);
    return !hsb__os_fails(HSB_FAULT("bind", NULL)) &&
           bind(s, (const struct sockaddr *)&ss, len) == 0;
}

enum { HSB__BACKLOG = SOMAXCONN };          /* as long as the system allows               */

static bool hsb__os_listen(hsb__socket s, int backlog)
{
    return !hsb__os_fails(HSB_FAULT("listen", NULL)) &&
           listen(s, backlog > 0 ? backlog : HSB__BACKLOG) == 0;
}

/* Whether it is a stream socket that listens.  False leaves the error at
   HSB__OS_BAD_DESCRIPTOR if it is no descriptor at all.                              */
static bool hsb__os_listens(hsb__socket s)
{
    int listens = 0, type = 0;
    socklen_t listens_len = sizeof listens, type_len = sizeof type;
    errno = 0;
    return getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) == 0 && listens &&
           getsockopt(s, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM;
}

/* A second socket for the same port and backlog.                                     */
static hsb__socket hsb__os_duplicate(hsb__socket s)
{
    return hsb__os_fails(HSB_FAULT("dup", NULL)) ? HSB__NO_SOCKET
                                                 : fcntl(s, F_DUPFD_CLOEXEC, 0);
}

/* How many bytes may wait in the kernel before TCP sends them.  Bytes in flight are
   not counted, so this costs no throughput.  It keeps the socket writable soon after
   the peer has read, and a slow client's share of memory small.                      */
enum { HSB__NOTSENT = 131072 };

static void hsb__os_set_accepted(hsb__socket s, hsb_family family)
{
    int on = 1;
#ifdef SO_NOSIGPIPE
    setsockopt(s, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    if (family != HSB_IPV4 && family != HSB_IPV6)
        return;
#ifdef TCP_NOTSENT_LOWAT
    int notsent = HSB__NOTSENT;
    setsockopt(s, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &notsent, sizeof notsent);
#endif
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* A new connection, non-blocking and close-on-exec, or HSB__NO_SOCKET.               */
static hsb__socket hsb__os_accept(hsb__socket listening, hsb_address *peer)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    hsb__socket s;
    memset(&ss, 0, sizeof ss);
    do {
        if (hsb__os_fails(HSB_FAULT("accept", NULL)))
            s = HSB__NO_SOCKET;
        else
#if defined(SYS_accept4) && defined(SOCK_CLOEXEC)
            s = (int)syscall(SYS_accept4, listening, &ss, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
#else
            s = accept(listening, (struct sockaddr *)&ss, &len);
#endif
    } while (s < 0 && errno == EINTR);
    if (s < 0)
        return HSB__NO_SOCKET;
#if !defined(SYS_accept4) || !defined(SOCK_CLOEXEC)
    if (!hsb__os_prepare(s)) {
        hsb__os_close(s);
        return HSB__NO_SOCKET;
    }
#endif
    hsb__os_from_sockaddr(peer, &ss);
    hsb__os_set_accepted(s, peer->family);
    return s;
}

/* --- files of Unix sockets ------------------------------------------------------------- */
/* The file that a bind has made.  Its inode cannot be another file's while the socket is
   open, so device and inode tell whether a path still names it.                      */
typedef struct hsb__socket_file {
    bool     made;
    uint64_t device, inode;
    int64_t  process;           /* a forked child leaves it alone                      */
} hsb__socket_file;

/* False: there is no such file, or it is no socket.                                  */
static bool hsb__os_socket_file(const char *path, hsb__socket_file *out)
{
    struct stat st;
    memset(out, 0, sizeof *out);
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    out->made = true;
    out->device = (uint64_t)st.st_dev;
    out->inode = (uint64_t)st.st_ino;
    out->process = (int64_t)getpid();
    return true;
}

/* Removes the file, if path still names it.                                          */
static bool hsb__os_remove_socket_file(const char *path, const hsb__socket_file *file)
{
    hsb__socket_file now;
    return file->made && hsb__os_socket_file(path, &now) && now.process == file->process &&
           now.device == file->device && now.inode == file->inode &&
           !hsb__os_fails(HSB_FAULT("unlink", NULL)) && unlink(path) == 0;
}

/* Whether nobody listens on the socket that a names.  Any doubt, such as a socket that we may
   not connect to, is a no.  But on BSD and macOS a server whose backlog is full refuses, too. */
static bool hsb__os_is_stale(const hsb_address *a)
{
    struct sockaddr_storage ss;
    socklen_t len = hsb__os_to_sockaddr(a, &ss);
    hsb__socket s = hsb__os_socket(HSB_UNIX, false);
    if (s == HSB__NO_SOCKET)
        return false;
    bool refused = connect(s, (const struct sockaddr *)&ss, len) != 0 && errno == ECONNREFUSED;
    hsb__os_close(s);
    return refused;
}

/* Whether accept failed for the one connection that it took off the backlog (Linux hands
   on that connection's network errors); another may well be accepted.                */
static bool hsb__os_accept_lost_one(int code)
{
    static const int codes[] = {
        ECONNABORTED, ECONNRESET, EPROTO, ETIMEDOUT,
        ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (code == codes[i])
            return true;
    return false;
}

/* Whether there is something to read, or for a socket that listens, to accept.       */
static bool hsb__os_is_readable(hsb__socket s)
{
    struct pollfd p = { s, POLLIN, 0 };
    return poll(&p, 1, 0) > 0;
}

/* --- connections ------------------------------------------------------------------------- */
static ptrdiff_t hsb__os_recv(hsb__socket s, void *buf, size_t len)
{
    ptrdiff_t n;
    do {
        if (hsb__os_fails(HSB_FAULT("recv", &len)))
            n = -1;
        else
            n = recv(s, buf, len, 0);
    } while (n < 0 && errno == EINTR);
    return n;
}

#ifndef MSG_NOSIGNAL
#  define MSG_NOSIGNAL 0            /* SO_NOSIGPIPE is set instead                      */
#endif

static ptrdiff_t hsb__os_send(hsb__socket s, const void *buf, size_t len)
{
    ptrdiff_t n;
    do {
        if (hsb__os_fails(HSB_FAULT("send", &len)))
            n = -1;
        else
            n = send(s, buf, len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* Whether a byte waits to be read; it stays where it is.                             */
static bool hsb__os_peek(hsb__socket s)
{
    char byte;
    return recv(s, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* Our end of the socket, which for one that listens is what it is bound to.          */
static bool hsb__os_local_address(hsb__socket s, hsb_address *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    memset(&ss, 0, sizeof ss);
    bool ok = getsockname(s, (struct sockaddr *)&ss, &len) == 0;
    hsb__os_from_sockaddr(out, &ss);
    return ok;
}

/* The error of the connection, or 0; reading it clears it: a second call returns 0.  */
static int hsb__os_socket_error(hsb__socket s)
{
    int code = 0;
    socklen_t len = sizeof code;
    getsockopt(s, SOL_SOCKET, SO_ERROR, &code, &len);
    return code;
}

/* How many bytes of ours the peer's system has not acknowledged, those not sent included; a
   FIN may count as one.  -1: this system does not say.                               */
static int64_t hsb__os_unsent(hsb__socket s)
{
    int n = 0;
#if defined(__APPLE__)
    socklen_t len = sizeof n;
    return getsockopt(s, SOL_SOCKET, SO_NWRITE, &n, &len) == 0 ? n : -1;
#elif defined(__linux__)
    return ioctl(s, TIOCOUTQ, &n) == 0 ? n : -1;            /* the same as SIOCOUTQ      */
#elif defined(FIONWRITE)
    return ioctl(s, FIONWRITE, &n) == 0 ? n : -1;
#else
    (void)s;
    return n - 1;
#endif
}

/* The peer gets a FIN after what was sent; we can still read.                        */
static void hsb__os_end_sending(hsb__socket s)
{
    shutdown(s, SHUT_WR);
}

/* The close that follows sends a reset, and drops what was not sent yet.             */
static void hsb__os_close_will_reset(hsb__socket s)
{
    struct linger reset = { 1, 0 };
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

/* --- files ----------------------------------------------------------------------------- */
enum { HSB__PATH_MAX = PATH_MAX };

/* How a folder is opened that is only searched: mode 711 is enough, as it is for the kernel. */
#if defined(O_PATH)
#  define HSB__O_SEARCH O_PATH
#elif defined(O_SEARCH)
#  define HSB__O_SEARCH O_SEARCH
#else
#  define HSB__O_SEARCH O_RDONLY
#endif

static int hsb__os_open_folder(int dir, const char *name)
{
    return openat(dir, name, HSB__O_SEARCH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW);
}

/* Looks at a file before it opens it, because merely opening a FIFO or a device has effects.
   O_NONBLOCK is for a FIFO that replaces the file in between.  -1 and EISDIR: a folder. */
static int hsb__os_open_regular(int dir, const char *name, bool follow)
{
    struct stat st;
    if (fstatat(dir, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : S_ISFIFO(st.st_mode) ? ESPIPE : ENXIO;
        return -1;
    }
    return openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                             (follow ? 0 : O_NOFOLLOW));
}

/* A regular file, for reading, or -1.                                                */
static int hsb__os_open_file(const char *path)
{
    int fd;
    do {
        if (hsb__os_fails(HSB_FAULT("open", NULL)))
            fd = -1;
        else
            fd = hsb__os_open_regular(AT_FDCWD, path, true);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static ptrdiff_t hsb__os_pread(int fd, void *buf, size_t len, int64_t offset)
{
    ptrdiff_t n;
    do {
        if (hsb__os_fails(HSB_FAULT("pread", &len)))
            n = -1;
        else
            n = pread(fd, buf, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n;
}

typedef enum hsb__file_kind { HSB__FILE_OTHER, HSB__FILE_REGULAR, HSB__FILE_FOLDER } hsb__file_kind;

typedef struct hsb__facts {
    hsb__file_kind kind;
    int64_t        size;
    int64_t        modified, changed;       /* seconds since 1970; changed: also by chmod,
                                               rename or a write that set modified back   */
    uint32_t       modified_ns, changed_ns; /*   and nanoseconds                           */
    uint64_t       device, inode;           /* together: which file it is                  */
} hsb__facts;

static bool hsb__os_facts(int fd, hsb__facts *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
#if defined(__APPLE__)
    const struct timespec modified = st.st_mtimespec, changed = st.st_ctimespec;
#else
    const struct timespec modified = st.st_mtim, changed = st.st_ctim;
#endif
    out->kind = S_ISREG(st.st_mode) ? HSB__FILE_REGULAR :
                S_ISDIR(st.st_mode) ? HSB__FILE_FOLDER : HSB__FILE_OTHER;
    out->size = (int64_t)st.st_size;
    out->modified = (int64_t)modified.tv_sec;
    out->modified_ns = (uint32_t)modified.tv_nsec;
    out->changed = (int64_t)changed.tv_sec;
    out->changed_ns = (uint32_t)changed.tv_nsec;
    out->device = (uint64_t)st.st_dev;
    out->inode = (uint64_t)st.st_ino;
    return true;
}

/* Walks from root, an absolute path without links, to what path names below it.  A link that
   is swapped in meanwhile fails (O_NOFOLLOW), so it cannot lead out.  Changes path.   */
static int hsb__os_walk(const char *root, char *path)
{
    int dir = open(root, HSB__O_SEARCH | O_CLOEXEC | O_DIRECTORY);
    while (dir >= 0) {
        path += strspn(path, "/");
        if (*path == '\0')
            return dir;
        char *end = path + strcspn(path, "/");
        bool last = *end == '\0';
        *end = '\0';
        int next = last ? hsb__os_open_regular(dir, path, false) : -1;
        if (!last || (next < 0 && errno == EISDIR))
            next = hsb__os_open_folder(dir, path);
        hsb__os_close_file(dir);
        if (last)
            return next;
        dir = next;
        path = end + 1;
    }
    return -1;
}

/* Opens what relative names below root: a regular file for reading, or a folder, of
   which only the facts can be had.  A symbolic link may lead to a place below root
   only: realpath() resolves all links before the check.  relative holds no NUL; the
   joined path must be shorter than PATH_MAX.  -1: see hsb__os_error.                  */
static int hsb__os_open_below(const char *root, const char *relative)
{
    char joined[PATH_MAX], real_root[PATH_MAX], real_path[PATH_MAX];
    if (hsb__os_fails(HSB_FAULT("open", NULL)))
        return -1;
    int n = snprintf(joined, sizeof joined, "%s/%s", root, relative);
    if (n < 0 || (size_t)n >= sizeof joined) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (!realpath(root, real_root) || !realpath(joined, real_path))
        return -1;
    size_t root_len = strlen(real_root);
    if (root_len == 1)
        root_len = 0;                                   /* root is "/"                 */
    if (strncmp(real_path, real_root, root_len) != 0 ||
        (real_path[root_len] != '/' && real_path[root_len] != '\0')) {
        errno = ENOENT;
        return -1;
    }
    return hsb__os_walk(real_root, real_path + root_len);
}

/* --- files that are written ------------------------------------------------------------- */

/* For its owner alone.  A folder that exists already is fine.                        */
static bool hsb__os_make_folder(const char *path)
{
    if (hsb__os_fails(HSB_FAULT("mkdir", NULL)))
        return false;
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

/* Whether it is a folder of this user's into which nobody else may write.            */
static bool hsb__os_folder_is_ours(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* A new, empty file in place of what was there, or -1.  Its owner alone may read it.  */
static int hsb__os_create_file(const char *path)
{
    if (hsb__os_fails(HSB_FAULT("create", NULL)))
        return -1;
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
}

static ptrdiff_t hsb__os_write_file(int fd, const void *bytes, size_t len)
{
    ptrdiff_t n;
    do {
        if (hsb__os_fails(HSB_FAULT("write", &len)))
            n = -1;
        else
            n = write(fd, bytes, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* What was written to the file is on the disk.                                        */
static bool hsb__os_sync_file(int fd)
{
    return !hsb__os_fails(HSB_FAULT("fsync", NULL)) && fsync(fd) == 0;
}

/* What was renamed in the folder stays renamed.  A system that cannot sync a folder does
   it by itself.                                                                       */
static bool hsb__os_sync_folder(const char *path)
{
    if (hsb__os_fails(HSB_FAULT("fsync", NULL)))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    hsb__os_close_file(fd);
    return ok;
}

/* Whatever has the new name is replaced: another process sees the old file or the new. */
static bool hsb__os_rename(const char *from, const char *to)
{
    return !hsb__os_fails(HSB_FAULT("rename", NULL)) && rename(from, to) == 0;
}

static void hsb__os_remove(const char *path)
{
    int saved = errno;
    unlink(path);
    errno = saved;
}

/* A lock that one descriptor in all processes can hold; the file is made if need be.  It
   is freed by hsb__os_close_file, and by the system if the process dies.  -1: no lock;
   hsb__os_would_block says whether another has it.                                     */
static int hsb__os_lock_file(const char *path, bool wait)
{
    if (hsb__os_fails(HSB_FAULT("lock", NULL)))
        return -1;
    int code, fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    if (fd < 0)
        return -1;
    do
        code = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
    while (code < 0 && errno == EINTR);
    if (code == 0)
        return fd;
    hsb__os_close_file(fd);
    return -1;
}

/* ===== >>process =================================================================
   Purpose  what >>serve takes from the system beside what a server needs: threads, standard
            descriptors, sockets of systemd, signals
   Uses     >>platform
   Names    hsb__thread*, hsb__weak_*, hsb__process_*, hsb__signals*
   Tests    tests/live/serve.c                                                       */

/* --- threads ----------------------------------------------------------------------------- */
/* glibc before 2.34 has threads in a library of their own.  A weak reference lets a program
   that starts none do without it.                                                     */
#if !defined(HSB_NO_THREADS) && defined(__GLIBC__) && __GLIBC__ == 2 && __GLIBC_MINOR__ < 34
#  define HSB__WEAK_THREADS 1
static __typeof__(pthread_create) hsb__weak_create __attribute__((weakref("pthread_create")));
static __typeof__(pthread_join) hsb__weak_join __attribute__((weakref("pthread_join")));
static __typeof__(pthread_sigmask) hsb__weak_mask __attribute__((weakref("pthread_sigmask")));
#elif !defined(HSB_NO_THREADS)
#  define hsb__weak_create pthread_create
#  define hsb__weak_join pthread_join
#  define hsb__weak_mask pthread_sigmask
#endif

#ifdef HSB_NO_THREADS
typedef int hsb__thread;
static bool hsb__thread_start(hsb__thread *t, void *(*run)(void *), void *arg)
{
    *t = 0;
    (void)run;
    (void)arg;
    errno = ENOSYS;
    return false;
}

static void hsb__thread_join(hsb__thread t) { (void)t; }
#else
typedef pthread_t hsb__thread;

/* The new thread gets no signals: those come to the threads that were there before.  False:
   see hsb__os_error, which is HSB__OS_NO_CALL if the program has no threads.          */
static bool hsb__thread_start(hsb__thread *t, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    if (hsb__os_fails(HSB_FAULT("thread", NULL)))
        return false;
#ifdef HSB__WEAK_THREADS
    if (!hsb__weak_create || !hsb__weak_mask) {
        errno = ENOSYS;
        return false;
    }
#endif
    sigfillset(&all);
    hsb__weak_mask(SIG_BLOCK, &all, &before);
    int failed = hsb__weak_create(t, NULL, run, arg);
    hsb__weak_mask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return !failed;
}

static void hsb__thread_join(hsb__thread t)
{
    hsb__weak_join(t, NULL);
}
#endif

/* --- standard descriptors and passed sockets --------------------------------------------- */
/* A daemon's starter may have closed 0, 1 or 2.  Each becomes /dev/null; otherwise a socket
   would get that number, and with it what is printed.                                */
static bool hsb__process_open_standard(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return false;
    return true;
}

enum { HSB__OUTPUT = 1, HSB__ERRORS = 2, HSB__PRINT_MAX = 512 };    /* _POSIX_PIPE_BUF      */

/* Writes all of a text of at most HSB__PRINT_MAX bytes, or nothing.  It does not wait: the
   reader of a pipe or a terminal may have stopped for good.                          */
static bool hsb__process_print(int fd, const char *text, size_t len)
{
    struct pollfd p = { fd, POLLOUT, 0 };
    ptrdiff_t n;
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return false;
    do
        n = write(fd, text, len);
    while (n < 0 && errno == EINTR);
    return n == (ptrdiff_t)len;
}

enum { HSB__PASSED = 3 };                   /* the first of them                          */

/* How many listening sockets systemd has passed: see sd_listen_fds(3).  No child of this
   process may take them for its own, so the variables are removed.                    */
static int hsb__process_passed_sockets(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    long n = pid && count && strtol(pid, NULL, 10) == (long)getpid() ? strtol(count, NULL, 10) : 0;
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n > 0 && n < INT_MAX - HSB__PASSED ? (int)n : 0;
}

/* --- signals ----------------------------------------------------------------------------- */
/* What has come: written by the handler, on whichever thread it runs.  The wake-up is opened
   once and never closed, because a handler may still be at work on another thread after
   the old handlers are back.                                                          */
typedef struct hsb__signals {
    hsb__wake        wake;
    bool             open;
    size_t           stops;                 /* SIGINT and SIGTERM; atomic                  */
    int              hangups;               /* 1: SIGHUP has come; atomic                  */
    struct sigaction before[4];
} hsb__signals;

static hsb__signals hsb__signals_of_process;

static void hsb__signals_came(int number)
{
    hsb__signals *s = &hsb__signals_of_process;
    if (number == SIGHUP)
        hsb__atomic_set_flags(&s->hangups, 1);
    else
        hsb__atomic_add(&s->stops, 1);
    hsb__wake_ring(&s->wake);
}

static const int hsb__signals_taken[4] = { SIGPIPE, SIGINT, SIGTERM, SIGHUP };

/* From now on SIGINT and SIGTERM are counted, SIGPIPE is ignored, and SIGHUP is noted if
   hangup is set.                                                                     */
static bool hsb__signals_take(bool hangup)
{
    hsb__signals *s = &hsb__signals_of_process;
    if (!s->open && !hsb__wake_open(&s->wake)) {
        hsb__wake_close(&s->wake);
        return false;
    }
    s->open = true;
    s->stops = 0;
    s->hangups = 0;
    for (int i = 0; i < 3 + hangup; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = hsb__signals_taken[i] == SIGPIPE ? SIG_IGN : hsb__signals_came;
        action.sa_flags = SA_RESTART;
        sigaction(hsb__signals_taken[i], &action, &s->before[i]);
    }
    return true;
}

static void hsb__signals_give_back(bool hangup)
{
    for (int i = 0; i < 3 + hangup; i++)
        sigaction(hsb__signals_taken[i], &hsb__signals_of_process.before[i], NULL);
}

/* ===== >>memory ==================================================================
   Purpose  the user's allocator with a count, wiping, a pool of blocks
   Uses     >>platform
   Names    hsb__memory_*, hsb__pool_*
   Tests    tests/unit/memory.c, tests/unit/wipes.c                                    */

/* All memory of an object is allocated through the object's hsb__memory.  Several threads
   may use it if the user's allocator allows that.                                     */
typedef struct hsb__memory {
    hsb_allocator user;     /* alloc NULL: HSB_MALLOC                                  */
    size_t        used;     /* bytes allocated now; atomic                             */
} hsb__memory;

static void *hsb__memory_alloc(hsb__memory *m, size_t size)
{
    void *p;
    HSB_ASSERT(size > 0);
    if (hsb__os_fails(HSB_FAULT("alloc", NULL)))
        return NULL;
    p = m->user.alloc ? m->user.alloc(size, m->user.user) : HSB_MALLOC(size);
    if (p)
        hsb__atomic_add(&m->used, size);
    return p;
}

static void *hsb__memory_zeroed(hsb__memory *m, size_t size)
{
    void *p = hsb__memory_alloc(m, size);
    return p ? memset(p, 0, size) : NULL;
}

/* count * size bytes, or NULL if that overflows.                                      */
static void *hsb__memory_array(hsb__memory *m, size_t count, size_t size)
{
    return count && count <= SIZE_MAX / size ? hsb__memory_zeroed(m, count * size) : NULL;
}

static void hsb__memory_free(hsb__memory *m, void *p, size_t size)
{
    if (!p)
        return;
    hsb__atomic_sub(&m->used, size);
    if (m->user.alloc)
        m->user.release(p, size, m->user.user);
    else
        HSB_FREE(p);
}

/* The compiler cannot leave this call out, because it cannot know what is called.     */
static void *(*const volatile hsb__memory_set)(void *, int, size_t) = memset;

static void hsb__memory_wipe(void *p, size_t size)
{
    hsb__memory_set(p, 0, size);
}

/* In constant time.                                                                    */
static bool hsb__memory_same(const void *a, const void *b, size_t size)
{
    const unsigned char *x = a, *y = b;
    unsigned wrong = 0;
    for (size_t i = 0; i < size; i++)
        wrong |= (unsigned)(x[i] ^ y[i]);
    return !HSB__PUBLIC(wrong);
}

static void hsb__memory_free_secret(hsb__memory *m, void *p, size_t size)
{
    if (p)
        hsb__memory_wipe(p, size);
    hsb__memory_free(m, p, size);
}

/* A larger copy of an array of old_size bytes, whose new part is zero; the old one is
   wiped and released.  NULL: nothing has changed.                                     */
static void *hsb__memory_grow(hsb__memory *m, void *old, size_t old_size, size_t new_size)
{
    void *p = hsb__memory_zeroed(m, new_size);
    if (!p)
        return NULL;
    if (old)
        memcpy(p, old, old_size);
    hsb__memory_free_secret(m, old, old_size);
    return p;
}

/* A NUL-terminated copy, or NULL.  Its size is len + 1.                               */
static char *hsb__memory_copy_text(hsb__memory *m, const char *text, size_t len)
{
    char *p = len < SIZE_MAX ? hsb__memory_alloc(m, len + 1) : NULL;
    if (!p)
        return NULL;
    if (len)
        memcpy(p, text, len);
    p[len] = '\0';
    return p;
}

/* Blocks of 256 bytes, 384, 512, 768, 1 KiB ... 64 KiB, kept for the next use; larger
   ones come straight from the allocator.  At most HSB__POOL_KEEP bytes stay unused.    */
enum { HSB__POOL_MIN_LOG = 8, HSB__POOL_CLASSES = 17 };
#ifndef HSB__POOL_KEEP
#  define HSB__POOL_KEEP ((size_t)1 << 20)      /* 0 in make check-asan                  */
#endif

typedef struct hsb__block { struct hsb__block *next; } hsb__block;
typedef struct hsb__pool {
    hsb__memory *memory;
    hsb__block  *unused[HSB__POOL_CLASSES];
    size_t       kept;      /* bytes in unused[]                                       */
} hsb__pool;

/* Even classes are powers of two, and the odd one above each is half as much again.    */
static size_t hsb__pool_size(int class)
{
    return (size_t)(class & 1 ? 3 : 2) << (HSB__POOL_MIN_LOG - 1 + class / 2);
}

static int hsb__pool_class(size_t size)
{
    if (size <= hsb__pool_size(0))
        return 0;
    if (size > hsb__pool_size(HSB__POOL_CLASSES - 1))
        return HSB__POOL_CLASSES;
    const int class = 2 * (32 - __builtin_clz((unsigned)size - 1) - HSB__POOL_MIN_LOG);
    return size <= hsb__pool_size(class - 1) ? class - 1 : class;
}

/* At least *size bytes; *size becomes the size of the block.                          */
static void *hsb__pool_get(hsb__pool *pool, size_t *size)
{
    int c = hsb__pool_class(*size);
    if (c == HSB__POOL_CLASSES)
        return hsb__memory_alloc(pool->memory, *size);
    *size = hsb__pool_size(c);
    hsb__block *b = pool->unused[c];
    if (!b)
        return hsb__memory_alloc(pool->memory, *size);
    pool->unused[c] = b->next;
    pool->kept -= *size;
    return b;
}

static void hsb__pool_put(hsb__pool *pool, void *p, size_t size)
{
    int c = hsb__pool_class(size);
    if (!p)
        return;
    if (c == HSB__POOL_CLASSES || pool->kept + size > HSB__POOL_KEEP) {
        hsb__memory_free_secret(pool->memory, p, size);
        return;
    }
    hsb__block *b = p;
    b->next = pool->unused[c];
    pool->unused[c] = b;
    pool->kept += size;
}

static void hsb__pool_close(hsb__pool *pool)
{
    for (int c = 0; c < HSB__POOL_CLASSES; c++) {
        size_t size = hsb__pool_size(c);
        for (hsb__block *b = pool->unused[c], *next; b; b = next) {
            next = b->next;
            hsb__memory_free_secret(pool->memory, b, size);
        }
        pool->unused[c] = NULL;
    }
    pool->kept = 0;
}

/* ===== >>arena ===================================================================
   Purpose  memory in pieces that are released all at once
   Uses     >>memory
   Names    hsb__arena_*
   Tests    tests/unit/arena.c                                                       */

/* An arena is the newest of its blocks, or NULL.  The pieces follow this struct.  A block is
   aligned as malloc's memory is, and all sizes within it are multiples of 16, which is the
   most that malloc aligns to: so each piece is aligned as malloc's memory is.          */
enum { HSB__ARENA_ALIGN = 16, HSB__ARENA_FIRST = 1024, HSB__ARENA_BLOCK = 65536 };

typedef struct hsb__arena {
    struct hsb__arena *older;
    size_t size;            /* of the block                                            */
    size_t used;            /* of it, with this struct                                 */
    size_t given;           /* bytes of all pieces; only right in the newest block      */
} hsb__arena;
HSB__ASSERT_STATIC(arena_pieces_are_aligned, sizeof(hsb__arena) % HSB__ARENA_ALIGN == 0);

static size_t hsb__arena_round(size_t size)
{
    return (size + (HSB__ARENA_ALIGN - 1)) & ~(size_t)(HSB__ARENA_ALIGN - 1);
}

/* Blocks grow, but no further than the pool keeps them.                               */
static hsb__arena *hsb__arena_block(const hsb__arena *newest, hsb__pool *pool, size_t piece)
{
    size_t size = newest ? newest->size * 2 : HSB__ARENA_FIRST;
    if (size > HSB__ARENA_BLOCK)
        size = HSB__ARENA_BLOCK;
    if (size < piece + sizeof(hsb__arena))
        size = piece + sizeof(hsb__arena);
    hsb__arena *b = hsb__pool_get(pool, &size);
    if (!b)
        return NULL;
    b->older = NULL;
    b->size = size;
    b->used = sizeof *b;
    b->given = 0;
    return b;
}

/* A piece, not zeroed, or NULL.  All pieces have at most `most` bytes together.  Of two
   blocks the one that has more space left is the newest, so that a large piece does not
   end the use of a block: what stays unused is less than what was given, and a block.  */
static void *hsb__arena_alloc(hsb__arena **arena, hsb__pool *pool, size_t size, size_t most)
{
    hsb__arena *newest = *arena, *b = newest;
    const size_t given = newest ? newest->given : 0, largest = SIZE_MAX / 4;
    most = hsb__arena_round(most < largest ? most : largest);
    if (size > most)
        return NULL;
    size = hsb__arena_round(size ? size : 1);
    if (size > most - given)
        return NULL;
    if (!b || b->size - b->used < size) {
        b = hsb__arena_block(newest, pool, size);
        if (!b)
            return NULL;
        if (newest && newest->size - newest->used > b->size - b->used - size) {
            b->older = newest->older;
            newest->older = b;
        } else {
            b->older = newest;
            *arena = b;
        }
    }
    (*arena)->given = given + size;
    b->used += size;
    return (char *)b + (b->used - size);
}

static void hsb__arena_release(hsb__arena **arena, hsb__pool *pool)
{
    hsb__arena *b = *arena;
    *arena = NULL;
    while (b) {
        hsb__arena *older = b->older;
        hsb__pool_put(pool, b, b->size);
        b = older;
    }
}

/* ===== >>list ====================================================================
   Purpose  lists whose links are part of their elements: no allocation, and an element
            leaves its list without a search
   Uses     nothing
   Names    hsb__link_*, HSB__OWNER
   Tests    tests/unit/list.c                                                        */

/* A list is a ring of links.  One of them, the list itself, belongs to no element.  Zeroed
   means empty for a list, and "in no list" for an element's link.  A list that has
   elements must stay where it is.                                                     */
typedef struct hsb__link { struct hsb__link *before, *next; } hsb__link;

/* The element that a link is the named field of.                                      */
#define HSB__OWNER(type, field, link) \
    ((type *)(void *)((char *)(link) - offsetof(type, field)))

/* The element after link, or NULL after the last; the first one for the list itself.  */
static hsb__link *hsb__link_next(const hsb__link *list, const hsb__link *link)
{
    return link->next != list ? link->next : NULL;
}

static hsb__link *hsb__link_first(const hsb__link *list)
{
    return hsb__link_next(list, list);
}

static bool hsb__link_is_listed(const hsb__link *link)
{
    return link->next != NULL;
}

/* Puts it at the end; it must be in no list.                                          */
static void hsb__link_add(hsb__link *list, hsb__link *link)
{
    if (!list->next)
        list->before = list->next = list;
    link->before = list->before;
    link->next = list;
    list->before->next = link;
    list->before = link;
}

/* Takes it out of whatever list it is in, if any.                                     */
static void hsb__link_remove(hsb__link *link)
{
    if (!link->next)
        return;
    link->before->next = link->next;
    link->next->before = link->before;
    link->before = link->next = NULL;
}

/* All elements of from move to the list to, which is empty; from is empty then.       */
static void hsb__link_move_all(hsb__link *to, hsb__link *from)
{
    to->before = to->next = NULL;
    if (!hsb__link_first(from))
        return;
    *to = *from;
    to->next->before = to->before->next = to;
    from->before = from->next = NULL;
}

/* ===== >>text ====================================================================
   Purpose  ASCII compare, classes of bytes, UTF-8, numbers with overflow checks, base64,
            dates
   Uses     nothing
   Names    hsb__text_*, hsb__byte_*, hsb__utf8_*, hsb__base64_*, hsb__date_*
   Tests    tests/unit/text.c, tests/unit/websocket_utf8.c                             */

static hsb_str hsb__text_make(const char *ptr, size_t len)
{
    hsb_str s;
    s.ptr = ptr;
    s.len = len;
    return s;
}

static hsb_str hsb__text_of(const char *z)
{
    return hsb__text_make(z, z ? strlen(z) : 0);
}

static hsb_str hsb__text_absent(void)
{
    return hsb__text_make(NULL, 0);
}

/* s without its first n bytes; s has at least n.                                      */
static hsb_str hsb__text_after(hsb_str s, size_t n)
{
    return hsb__text_make(s.ptr + n, s.len - n);
}

/* Returns the part of *rest before the first mark, and sets *rest to what follows the mark.
   *rest becomes absent if there was no mark.                                          */
static hsb_str hsb__text_cut(hsb_str *rest, char mark)
{
    hsb_str part = *rest;
    const char *at = part.len ? memchr(part.ptr, mark, part.len) : NULL;
    if (!at) {
        *rest = hsb__text_absent();
        return part;
    }
    part.len = (size_t)(at - part.ptr);
    *rest = hsb__text_make(at + 1, rest->len - part.len - 1);
    return part;
}

static char hsb__text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool hsb__text_equal(hsb_str a, hsb_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool hsb__text_equal_nocase(hsb_str a, hsb_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (hsb__text_lower(a.ptr[i]) != hsb__text_lower(b.ptr[i]))
            return false;
    return true;
}

static bool hsb__text_is(hsb_str a, const char *z)
{
    return hsb__text_equal(a, hsb__text_of(z));
}

static bool hsb__text_is_nocase(hsb_str a, const char *z)
{
    return hsb__text_equal_nocase(a, hsb__text_of(z));
}

static bool hsb__text_begins_nocase(hsb_str a, const char *z)
{
    const size_t len = strlen(z);
    return a.len >= len && hsb__text_is_nocase(hsb__text_make(a.ptr, len), z);
}

/* --- classes of bytes ------------------------------------------------------------------ */
enum {
    HSB__BYTE_DIGIT  = 0x01,    /* RFC 5234 B.1: DIGIT                                 */
    HSB__BYTE_LETTER = 0x02,    /* RFC 5234 B.1: ALPHA                                 */
    HSB__BYTE_TOKEN  = 0x04,    /* RFC 9110 5.6.2: tchar                               */
    HSB__BYTE_FIELD  = 0x08,    /* RFC 9110 5.5: a field value: HTAB, SP, VCHAR, obs-text */
    HSB__BYTE_TARGET = 0x10,    /* RFC 9112 3.2: VCHAR but '#', as a fragment is never
                                   sent (RFC 9110 7.1)                                 */
    HSB__BYTE_NAME   = 0x20,    /* RFC 3986 3.2.2: reg-name, apart from %XX            */
    HSB__BYTE_COOKIE = 0x40,    /* RFC 6265 4.1.1: cookie-octet                        */
    HSB__BYTE_LABEL  = 0x80     /* RFC 1123 2.1: letters, digits, '-'; and '_', which some
                                   hosts have                                          */
};

/* The classes that each byte is in, 16 bytes a line.                                  */
static const unsigned char hsb__byte_classes[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x08, 0x7C, 0x18, 0x4C, 0x7C, 0x5C, 0x7C, 0x7C, 0x78, 0x78, 0x7C, 0x7C, 0x38, 0xFC, 0x7C, 0x58,
    0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0xFD, 0x58, 0x38, 0x58, 0x78, 0x58, 0x58,
    0x58, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE,
    0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0x58, 0x18, 0x58, 0x5C, 0xFC,
    0x5C, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE,
    0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0xFE, 0x58, 0x5C, 0x58, 0x7C, 0x00,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
    0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08, 0x08,
};

/* Is the byte in one of the classes?                                                  */
static bool hsb__byte_is(char c, unsigned classes)
{
    return (hsb__byte_classes[(unsigned char)c] & classes) != 0;
}

/* How many bytes at the start of s are in one of the classes.                         */
static size_t hsb__byte_count(hsb_str s, unsigned classes)
{
    size_t n = 0;
    while (n < s.len && hsb__byte_is(s.ptr[n], classes))
        n++;
    return n;
}

static bool hsb__text_is_token(hsb_str s)
{
    return s.len > 0 && hsb__byte_count(s, HSB__BYTE_TOKEN) == s.len;
}

static bool hsb__text_is_field_value(hsb_str s)
{
    return hsb__byte_count(s, HSB__BYTE_FIELD) == s.len;
}

/* RFC 9110 5.6.3: OWS                                                                 */
static bool hsb__byte_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* s without the blanks at both ends.                                                  */
static hsb_str hsb__text_trim(hsb_str s)
{
    while (s.len && hsb__byte_is_blank(*s.ptr))
        s = hsb__text_after(s, 1);
    while (s.len && hsb__byte_is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* 0..15, or -1                                                                        */
static int hsb__text_hex(char c)
{
    if (hsb__byte_is(c, HSB__BYTE_DIGIT))
        return c - '0';
    c = hsb__text_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads a number of at least one digit and nothing else; false also above max.        */
static bool hsb__text_decimal(hsb_str s, int64_t max, int64_t *out)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        int64_t digit = s.ptr[i] - '0';
        if (!hsb__byte_is(s.ptr[i], HSB__BYTE_DIGIT) || digit > max || n > (max - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return s.len > 0;
}

/* A number with any number of digits; one that is too large becomes INT64_MAX.          */
static bool hsb__text_number(hsb_str s, int64_t *out)
{
    if (!hsb__text_decimal(s, INT64_MAX, out))
        *out = INT64_MAX;
    return s.len > 0 && hsb__byte_count(s, HSB__BYTE_DIGIT) == s.len;
}

/* Writes n in decimal at out (20 bytes at most) and returns the length.               */
static size_t hsb__text_print(char *out, uint64_t n)
{
    char digits[20];
    size_t len = 0;
    do
        digits[len++] = (char)('0' + n % 10);
    while (n /= 10);
    for (size_t i = 0; i < len; i++)
        out[i] = digits[len - 1 - i];
    return len;
}

/* Writes byte at out as two hex digits, ten is 'a' or 'A', and returns where they end.  */
static char *hsb__text_print_hex(char *out, unsigned byte, char ten)
{
    for (int shift = 4; shift >= 0; shift -= 4) {
        const unsigned digit = byte >> shift & 15;
        *out++ = (char)(digit < 10 ? '0' + digit : (unsigned)ten + digit - 10);
    }
    return out;
}

/* The next element of a comma-separated list (RFC 9110 5.6.1), trimmed; false at the
   end.  A comma within a quoted string does not separate.                             */
static bool hsb__text_next_element(hsb_str *rest, hsb_str *element)
{
    while (rest->len) {
        bool quoted = false;
        size_t i = 0;
        for (; i < rest->len && (quoted || rest->ptr[i] != ','); i++) {
            if (quoted && rest->ptr[i] == '\\' && i + 1 < rest->len)
                i++;
            else if (rest->ptr[i] == '"')
                quoted = !quoted;
        }
        *element = hsb__text_trim(hsb__text_make(rest->ptr, i));
        *rest = hsb__text_after(*rest, i < rest->len ? i + 1 : i);
        if (element->len)
            return true;
    }
    return false;
}

/* --- UTF-8 ----------------------------------------------------------------------------- */
/* A reader that may stop within a character.  Zeroed: between two characters.  Else `need`
   bytes are missing, and the next of them must lie within low..high.                  */
typedef struct hsb__utf8 { uint32_t c; unsigned char need, low, high; } hsb__utf8;

/* RFC 3629 4: no overlong forms (C0, C1, E0 80, F0 80), no surrogates (ED A0), nothing
   above U+10FFFF (F4 90, F5).  When need is 0 after it, the character c is complete.   */
static bool hsb__utf8_byte(hsb__utf8 *u, unsigned char byte)
{
    if (u->need) {
        if (byte < u->low || byte > u->high)
            return false;
        u->c = u->c << 6 | (byte & 0x3F);
        u->need--;
        u->low = 0x80;
        u->high = 0xBF;
        return true;
    }
    u->c = byte;
    if (byte < 0x80)
        return true;
    if (byte < 0xC2 || byte > 0xF4)
        return false;
    u->need = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    u->low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    u->high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    u->c = byte & (0x3Fu >> u->need);
    return true;
}

/* How many bytes at the start are ASCII, counted in whole groups of eight.             */
static size_t hsb__utf8_ascii(const char *bytes, size_t len)
{
    const uint64_t high_bits = 0x8080808080808080u;
    size_t n = 0;
    for (uint64_t word; len - n >= sizeof word; n += sizeof word) {
        memcpy(&word, bytes + n, sizeof word);
        if (word & high_bits)
            break;
    }
    return n;
}

/* Reads more bytes.  Returns len, or the index of the first byte that is invalid there. */
static size_t hsb__utf8_read(hsb__utf8 *u, const char *bytes, size_t len)
{
    hsb__utf8 now = *u;
    size_t at = 0;
    while (at < len) {
        if (now.need == 0)
            at += hsb__utf8_ascii(bytes + at, len - at);
        if (at == len || !hsb__utf8_byte(&now, (unsigned char)bytes[at]))
            break;
        at++;
    }
    *u = now;
    return at;
}

/* The longest part of s from its start, max bytes at most, that is whole characters of UTF-8. */
static hsb_str hsb__utf8_start(hsb_str s, size_t max)
{
    hsb__utf8 u = { 0, 0, 0, 0 };
    size_t len = s.len < max ? s.len : max;
    len = hsb__utf8_read(&u, s.ptr, len);
    if (u.need)                                     /* drop the unfinished character    */
        while (len && ((unsigned char)s.ptr[--len] & 0xC0) == 0x80)
            ;
    return hsb__text_make(s.ptr, len);
}

static bool hsb__utf8_is(hsb_str s)
{
    return hsb__utf8_start(s, s.len).len == s.len;
}

/* The next character of *rest; false: what comes next is not one.                      */
static bool hsb__utf8_next(hsb_str *rest, uint32_t *c)
{
    hsb__utf8 u = { 0, 0, 0, 0 };
    do {
        if (rest->len == 0 || !hsb__utf8_byte(&u, (unsigned char)*rest->ptr))
            return false;
        *rest = hsb__text_after(*rest, 1);
    } while (u.need);
    *c = u.c;
    return true;
}

/* Characters that change how a terminal or a log shows the text around them, or that show
   nothing: controls, line and paragraph separators, and Unicode's format characters (Cf),
   which include those that turn the direction of writing.                             */
static bool hsb__utf8_is_hidden(uint32_t c)
{
    static const uint32_t ranges[][2] = {
        { 0x0000, 0x001F },   { 0x007F, 0x009F },   { 0x00AD, 0x00AD },   { 0x0600, 0x0605 },
        { 0x061C, 0x061C },   { 0x06DD, 0x06DD },   { 0x070F, 0x070F },   { 0x0890, 0x0891 },
        { 0x08E2, 0x08E2 },   { 0x180E, 0x180E },   { 0x200B, 0x200F },   { 0x2028, 0x202E },
        { 0x2060, 0x206F },   { 0xFEFF, 0xFEFF },   { 0xFFF9, 0xFFFB },   { 0x110BD, 0x110BD },
        { 0x110CD, 0x110CD }, { 0x13430, 0x1343F }, { 0x1BCA0, 0x1BCA3 }, { 0x1D173, 0x1D17A },
        { 0xE0000, 0xE007F },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

/* --- base64 ---------------------------------------------------------------------------- */
/* RFC 4648 4, with padding; if url is true RFC 4648 5, without.  Adds a NUL: out has
   4 * ((len + 2) / 3) + 1 bytes.                                                      */
static void hsb__base64_print(char *out, const unsigned char *in, size_t len, bool url)
{
    const char *digits = url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                             : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        const size_t count = len - i < 3 ? len - i : 3;     /* of bytes, in count + 1 digits */
        unsigned bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < count ? in[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            if (k <= count)
                *out++ = digits[bits >> (18 - 6 * k) & 63];
            else if (!url)
                *out++ = '=';
    }
    *out = '\0';
}

/* Of a digit of RFC 4648 4: 0..63, or -1.                                             */
static int hsb__base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 4, strictly: with padding, no other bytes, and no bits set that belong to no byte
   (3.5).  out has s.len / 4 * 3 bytes.                                                */
static bool hsb__base64_read(hsb_str s, char *out, size_t *len)
{
    size_t pad = 0, n = 0;
    unsigned bits = 0;
    while (pad < 2 && pad < s.len && s.ptr[s.len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < s.len; i++) {
        const int value = i < s.len - pad ? hsb__base64_value(s.ptr[i]) : 0;
        if (value < 0)
            return false;
        bits = (bits << 6 | (unsigned)value) & 0xFFFFFF;
        if (i % 4 == 3)
            for (int shift = 16; shift >= 0; shift -= 8)
                out[n++] = (char)(bits >> shift & 0xFF);
    }
    if (s.len % 4 || (pad && bits & (pad == 1 ? 0xFFu : 0xFFFFu)))
        return false;
    *len = n - pad;
    return true;
}

/* --- dates ----------------------------------------------------------------------------- */
/* Days since 1970-01-01 of a day of the Gregorian calendar, and back.  The year starts
   in March here, so that the leap day is its last.                                    */
static int64_t hsb__date_days(int64_t year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
           day_of_year - 719468;
}

typedef struct hsb__date { int64_t year; int month, day, weekday, hour, minute, second; } hsb__date;

static hsb__date hsb__date_split(int64_t seconds)
{
    hsb__date d;
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    d.hour = (int)(rest / 3600);
    d.minute = (int)(rest / 60 % 60);
    d.second = (int)(rest % 60);
    d.weekday = (int)(((days + 4) % 7 + 7) % 7);                /* 0: Sunday            */
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    d.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    d.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    d.year = yoe + era * 400 + (d.month <= 2);
    return d;
}

/* RFC 9110 5.6.7: IMF-fixdate, 29 bytes and a NUL                                     */
enum { HSB__DATE_TEXT = 30 };
static const char hsb__date_days_of_week[] = "SunMonTueWedThuFriSat";
static const char hsb__date_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static void hsb__date_print(char out[HSB__DATE_TEXT], int64_t seconds)
{
    hsb__date d = hsb__date_split(seconds);
    char text[96];
    snprintf(text, sizeof text, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
             hsb__date_days_of_week + d.weekday * 3, d.day, hsb__date_months + (d.month - 1) * 3,
             (int)(d.year < 0 || d.year > 9999 ? 9999 : d.year), d.hour, d.minute, d.second);
    memcpy(out, text, HSB__DATE_TEXT - 1);
    out[HSB__DATE_TEXT - 1] = '\0';
}

/* Takes a number of exactly so many digits off the front of *s; -1: it has none, or the
   number is above max.                                                                */
static int hsb__date_number(hsb_str *s, size_t digits, int max)
{
    int64_t n;
    if (s->len < digits || !hsb__text_decimal(hsb__text_make(s->ptr, digits), max, &n))
        return -1;
    *s = hsb__text_after(*s, digits);
    return (int)n;
}

/* Takes a month's name off the front of *s: 1..12, or -1.                             */
static int hsb__date_month(hsb_str *s)
{
    for (int month = 1; s->len >= 3 && month <= 12; month++)
        if (memcmp(s->ptr, hsb__date_months + (month - 1) * 3, 3) == 0) {
            *s = hsb__text_after(*s, 3);
            return month;
        }
    return -1;
}

/* Letters of the pattern: w is a weekday; d and D are a day of two digits and of one; n is
   a month's name; Y and y are a year of four digits and of two; h, m and s are the time.
   Every other character stands for itself.                                            */
static bool hsb__date_read(hsb_str s, const char *pattern, hsb__date *d)
{
    bool ok = true;
    for (; ok && *pattern; pattern++) {
        size_t used = 0;
        switch (*pattern) {
        case 'w':
            used = hsb__byte_count(s, HSB__BYTE_LETTER);
            ok = used >= 3;
            break;
        case 'd': ok = (d->day = hsb__date_number(&s, 2, 31)) > 0; break;
        case 'D': ok = (d->day = hsb__date_number(&s, 1, 9)) > 0; break;
        case 'n': ok = (d->month = hsb__date_month(&s)) > 0; break;
        case 'Y': ok = (d->year = hsb__date_number(&s, 4, 9999)) >= 0; break;
        case 'y': ok = (d->year = hsb__date_number(&s, 2, 99)) >= 0; break;
        case 'h': ok = (d->hour = hsb__date_number(&s, 2, 23)) >= 0; break;
        case 'm': ok = (d->minute = hsb__date_number(&s, 2, 59)) >= 0; break;
        case 's': ok = (d->second = hsb__date_number(&s, 2, 60)) >= 0; break;
        default:
            ok = s.len && *s.ptr == *pattern;
            used = ok;
        }
        s = used ? hsb__text_after(s, used) : s;
    }
    return ok && s.len == 0;
}

/* RFC 9110 5.6.7: the preferred form and the two obsolete ones.  A year of two digits is at
   most 50 years after now.  False: s is not a date; a condition with such a value is ignored. */
static bool hsb__date_parse(hsb_str s, int64_t now, int64_t *seconds)
{
    hsb__date d;
    if (hsb__date_read(s, "w, d-n-y h:m:s GMT", &d)) {
        int64_t year = hsb__date_split(now).year;
        d.year += year - year % 100;
        if (d.year > year + 50)
            d.year -= 100;
    } else if (!hsb__date_read(s, "w, d n Y h:m:s GMT", &d) &&
               !hsb__date_read(s, "w n d h:m:s Y", &d) &&
               !hsb__date_read(s, "w n  D h:m:s Y", &d)) {
        return false;
    }
    *seconds = hsb__date_days(d.year, d.month, d.day) * 86400 + d.hour * 3600 + d.minute * 60 +
               d.second;
    return true;
}

/* ===== >>buffer ==================================================================
   Purpose  the byte queue for all that waits to be parsed or sent
   Uses     >>memory
   Names    hsb__buffer_*
   Tests    tests/unit/buffer.c                                                      */

/* The queue is data[head..tail).  It is empty if all but pool is zero.  After
   hsb__buffer_release it has no block, so an idle connection costs nothing here.      */
typedef struct hsb__buffer {
    hsb__pool *pool;
    char      *data;
    size_t     head, tail, size;
} hsb__buffer;

static size_t hsb__buffer_len(const hsb__buffer *b)
{
    return b->tail - b->head;
}

static char *hsb__buffer_data(const hsb__buffer *b)
{
    return b->data ? b->data + b->head : NULL;
}

static void hsb__buffer_release(hsb__buffer *b)
{
    hsb__pool_put(b->pool, b->data, b->size);
    b->data = NULL;
    b->head = b->tail = b->size = 0;
}

/* Space for more bytes after the tail, or NULL.  May move what is queued.              */
static char *hsb__buffer_reserve(hsb__buffer *b, size_t more)
{
    size_t len = hsb__buffer_len(b);
    if (b->size - b->tail >= more && b->data)
        return b->data + b->tail;
    if (more > SIZE_MAX / 2 - len)
        return NULL;
    if (b->size >= len + more && b->head >= len) {      /* amortised: as many have left  */
        memcpy(b->data, b->data + b->head, len);
    } else {
        size_t size = b->size * 2 > len + more ? b->size * 2 : len + more;
        char *data = hsb__pool_get(b->pool, &size);
        if (!data)
            return NULL;
        if (len)
            memcpy(data, b->data + b->head, len);
        hsb__pool_put(b->pool, b->data, b->size);
        b->data = data;
        b->size = size;
    }
    b->head = 0;
    b->tail = len;
    return b->data + len;
}

static void hsb__buffer_added(hsb__buffer *b, size_t n)
{
    HSB_ASSERT(n <= b->size - b->tail);
    b->tail += n;
}

/* Removes n bytes at the head.                                                        */
static void hsb__buffer_taken(hsb__buffer *b, size_t n)
{
    HSB_ASSERT(n <= hsb__buffer_len(b));
    b->head += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

static bool hsb__buffer_append(hsb__buffer *b, const void *bytes, size_t n)
{
    if (n == 0)
        return true;
    char *at = hsb__buffer_reserve(b, n);
    if (!at)
        return false;
    memcpy(at, bytes, n);
    b->tail += n;
    return true;
}

static bool hsb__buffer_append_text(hsb__buffer *b, const char *z)
{
    return hsb__buffer_append(b, z, strlen(z));
}

/* ===== >>error ===================================================================
   Purpose  status texts, filling an hsb_error
   Uses     >>platform >>text
   Names    hsb__error_*
   Tests    tests/unit/error.c                                                       */

static const char *hsb__error_status_text(hsb_status status)
{
#define HSB_STATUS_TEXT(name, text) text,
    static const char *const texts[] = { HSB_STATUS_LIST(HSB_STATUS_TEXT) };
#undef HSB_STATUS_TEXT
    return (unsigned)status < HSB_STATUS_COUNT ? texts[status] : "unknown status";
}

/* Writes '?' over each byte that is not UTF-8, and over each character that would change how
   a terminal or a log shows the text: parts of it may come from a file or from the network. */
static void hsb__error_make_printable(char *text)
{
    hsb_str rest = hsb__text_of(text);
    while (rest.len) {
        hsb_str character = rest;
        uint32_t c;
        bool good = hsb__utf8_next(&rest, &c);
        if (!good)
            rest = hsb__text_after(character, 1);
        if (!good || hsb__utf8_is_hidden(c))
            memset(text + (character.ptr - text), '?', (size_t)(rest.ptr - character.ptr));
    }
}

/* Fills *err, which may be NULL, and returns false so that callers can return it.  The
   text is one line, cut if it is too long.                                             */
__attribute__((format(printf, 5, 6)))
static bool hsb__error_set(hsb_error *err, hsb_status status, int system_code, int tls_code,
                           const char *format, ...)
{
    va_list args;
    if (!err)
        return false;
    err->status = status;
    err->system_code = system_code;
    err->tls_code = tls_code;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    hsb__error_make_printable(err->text);
    return false;
}

static bool hsb__error_memory(hsb_error *err)
{
    return hsb__error_set(err, HSB_ERR_MEMORY, HSB__OS_NO_MEMORY, 0, "out of memory");
}

/* For a system call that failed: "bind 127.0.0.1:443: Permission denied"              */
static bool hsb__error_system(hsb_error *err, int code, const char *what)
{
    return hsb__error_set(err, HSB_ERR_SYSTEM, code, 0, "%s: %s", what, hsb__os_error_text(code));
}

static void hsb__error_clear(hsb_error *err)
{
    if (err)
        memset(err, 0, sizeof *err);
}

/* ===== >>timer ===================================================================
   Purpose  deadlines: a wheel of wheels, constant time to set, cancel and fire
   Uses     >>list
   Names    hsb__timer_*, hsb__timers_*
   Tests    tests/unit/timer.c                                                       */

/* Wheel 0 has a slot for each of the next 64 ms, wheel 1 a slot for each 64 ms after that,
   and so on.  Five wheels reach 12 days; a later timer waits in the last slot and is then
   inserted again.  When the time reaches a slot of a higher wheel, its timers move down.  */
enum { HSB__WHEELS = 5, HSB__SLOTS = 64, HSB__SLOT_BITS = 6 };

typedef struct hsb__timer {
    hsb__link  link;                /* in its slot, while it is set                    */
    uint64_t   due;                 /* ms                                              */
    void     (*fire)(struct hsb__timer *);
    void      *owner;
} hsb__timer;

typedef struct hsb__timers {
    uint64_t  now;                  /* ms; all that was due before it has fired        */
    uint64_t  occupied[HSB__WHEELS];        /* a bit for each slot that may have some  */
    hsb__link slot[HSB__WHEELS][HSB__SLOTS];
} hsb__timers;

/* The lowest wheel on which due and now lie within one turn.                          */
static void hsb__timers_insert(hsb__timers *all, hsb__timer *t)
{
    uint64_t due = t->due > all->now ? t->due : all->now + 1;
    uint64_t reach = (uint64_t)(HSB__SLOTS - 1) << ((HSB__WHEELS - 1) * HSB__SLOT_BITS);
    if (due - all->now > reach)
        due = all->now + reach;
    unsigned wheel = 0;
    while (wheel + 1 < HSB__WHEELS &&
           (due >> ((wheel + 1) * HSB__SLOT_BITS)) != (all->now >> ((wheel + 1) * HSB__SLOT_BITS)))
        wheel++;
    unsigned slot = (unsigned)(due >> (wheel * HSB__SLOT_BITS)) & (HSB__SLOTS - 1);
    hsb__link_add(&all->slot[wheel][slot], &t->link);
    all->occupied[wheel] |= (uint64_t)1 << slot;
}

static bool hsb__timer_is_set(const hsb__timer *t)
{
    return hsb__link_is_listed(&t->link);
}

/* The slot's bit stays: see hsb__timers_next_slot.                                    */
static void hsb__timer_cancel(hsb__timer *t)
{
    hsb__link_remove(&t->link);
}

static void hsb__timer_set(hsb__timers *all, hsb__timer *t, uint64_t due)
{
    hsb__timer_cancel(t);
    t->due = due;
    hsb__timers_insert(all, t);
}

/* How many slots after now's own the next occupied slot of a wheel is, or -1.  A slot whose
   timers were all cancelled does not count.                                           */
static int hsb__timers_next_slot(const hsb__timers *all, unsigned wheel)
{
    unsigned at = (unsigned)(all->now >> (wheel * HSB__SLOT_BITS)) & (HSB__SLOTS - 1);
    uint64_t bits = all->occupied[wheel];
    bits = at ? bits >> at | bits << (HSB__SLOTS - at) : bits;
    for (; bits; bits &= bits - 1) {
        unsigned ahead = (unsigned)__builtin_ctzll(bits);
        if (hsb__link_first(&all->slot[wheel][(at + ahead) & (HSB__SLOTS - 1)]))
            return (int)ahead;
    }
    return -1;
}

/* The time of the next occupied slot of all wheels; UINT64_MAX: there is none.        */
static uint64_t hsb__timers_next(const hsb__timers *all)
{
    uint64_t best = UINT64_MAX;
    for (unsigned wheel = 0; wheel < HSB__WHEELS; wheel++) {
        int ahead = hsb__timers_next_slot(all, wheel);
        if (ahead < 0)
            continue;
        unsigned shift = wheel * HSB__SLOT_BITS;
        uint64_t at = ((all->now >> shift) + (unsigned)ahead) << shift;
        if (at < all->now)
            at = all->now;
        if (at < best)
            best = at;
    }
    return best;
}

/* Empties the slot first, because what fires may set and cancel timers, this slot's too. */
static void hsb__timers_visit(hsb__timers *all, unsigned wheel)
{
    unsigned slot = (unsigned)(all->now >> (wheel * HSB__SLOT_BITS)) & (HSB__SLOTS - 1);
    hsb__link list, *first;
    hsb__link_move_all(&list, &all->slot[wheel][slot]);
    all->occupied[wheel] &= ~((uint64_t)1 << slot);
    while ((first = hsb__link_first(&list)) != NULL) {
        hsb__timer *t = HSB__OWNER(hsb__timer, link, first);
        hsb__timer_cancel(t);
        if (t->due <= all->now)
            t->fire(t);
        else
            hsb__timers_insert(all, t);
    }
}

/* Fires all that is due at now or before.                                             */
static void hsb__timers_advance(hsb__timers *all, uint64_t now)
{
    for (;;) {
        uint64_t next = hsb__timers_next(all);
        if (next > now)
            break;
        all->now = next;
        for (unsigned wheel = HSB__WHEELS; wheel-- > 0;)
            if ((next & (((uint64_t)1 << (wheel * HSB__SLOT_BITS)) - 1)) == 0 || wheel == 0)
                hsb__timers_visit(all, wheel);
    }
    if (now > all->now)
        all->now = now;
}

/* ===== >>address =================================================================
   Purpose  numeric addresses: parse, print, compare; host names in the form in which they
            are compared
   Uses     >>platform >>text >>error
   Names    hsb__address_*, hsb__host_*
   Tests    tests/unit/address.c, tests/unit/selfsigned.c                                  */

/* RFC 4291 2.5.6: fe80::/10, the only addresses that need a zone                      */
static bool hsb__address_is_link_local(const hsb_address *a)
{
    return a->family == HSB_IPV6 && a->bytes[0] == 0xFE && (a->bytes[1] & 0xC0) == 0x80;
}

/* RFC 4007 11.2: a zone is the name of an interface, or else a number.  0 stands for "no
   zone", so it is not accepted.  Linux cuts names at a colon: without the check, "eth0:443"
   would be eth0.                                                                      */
static bool hsb__address_parse_zone(hsb_address *a, hsb_str zone)
{
    char name[HSB__INTERFACE_NAME] = "";
    int64_t number = 0;
    if (!hsb__address_is_link_local(a) || zone.len == 0 || zone.len >= sizeof name ||
        memchr(zone.ptr, ':', zone.len))
        return false;
    memcpy(name, zone.ptr, zone.len);
    a->scope_id = hsb__os_interface_index(name);
    if (a->scope_id == 0 && hsb__text_decimal(zone, UINT32_MAX, &number))
        a->scope_id = (uint32_t)number;
    return a->scope_id != 0;
}

/* An IPv6 address without a zone.                                                     */
static bool hsb__address_parse_v6_number(hsb_str s, uint8_t out[16])
{
    char number[HSB__IP_TEXT] = "";
    if (s.len >= sizeof number || memchr(s.ptr, 0, s.len))
        return false;
    memcpy(number, s.ptr, s.len);
    return hsb__os_ip_parse(HSB_IPV6, number, out);
}

static bool hsb__address_parse_v6(hsb_address *a, hsb_str s)
{
    const char *percent = memchr(s.ptr, '%', s.len);
    size_t len = percent ? (size_t)(percent - s.ptr) : s.len;
    if (!hsb__address_parse_v6_number(hsb__text_make(s.ptr, len), a->bytes))
        return false;
    a->family = HSB_IPV6;
    if (!percent)
        return true;
    return hsb__address_parse_zone(a, hsb__text_make(percent + 1, s.len - len - 1));
}

/* "127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "fe80::1%3".  No port, no spaces, none of
   the old forms ("127.1", octal).  False: *out is unchanged.                          */
static bool hsb__address_parse(hsb_address *out, const char *numeric)
{
    hsb_address a;
    hsb_str s = hsb__text_of(numeric);
    memset(&a, 0, sizeof a);
    if (hsb__os_ip_parse(HSB_IPV4, numeric, a.bytes)) {
        a.family = HSB_IPV4;
        *out = a;
        return true;
    }
    if (s.len >= 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
        s = hsb__text_make(s.ptr + 1, s.len - 2);
    if (!hsb__address_parse_v6(&a, s))
        return false;
    *out = a;
    return true;
}

/* "%eth0"; "%3" where no interface has that number now; "" without a zone             */
enum { HSB__ADDRESS_ZONE_MAX = HSB__INTERFACE_NAME + 1 };

static void hsb__address_print_zone(char out[HSB__ADDRESS_ZONE_MAX], uint32_t scope_id)
{
    char name[HSB__INTERFACE_NAME];
    out[0] = '\0';
    if (scope_id && hsb__os_interface_name(scope_id, name))
        snprintf(out, HSB__ADDRESS_ZONE_MAX, "%%%s", name);
    else if (scope_id)
        snprintf(out, HSB__ADDRESS_ZONE_MAX, "%%%lu", (unsigned long)scope_id);
}

/* "127.0.0.1:443", "[fe80::1%eth0]:443".  Port 0 is left out, and the brackets with it, so
   that hsb__address_parse can read the text.                                          */
static const char *hsb__address_text(const hsb_address *a, char buf[HSB_ADDRESS_TEXT_MAX])
{
    char number[HSB__IP_TEXT] = "unknown", zone[HSB__ADDRESS_ZONE_MAX] = "";
    if (a->family == HSB_IPV4) {
        hsb__os_ip_print(HSB_IPV4, a->bytes, number);
    } else if (a->family == HSB_IPV6) {
        hsb__os_ip_print(HSB_IPV6, a->bytes, number);
        hsb__address_print_zone(zone, a->scope_id);
    }
    if (a->family == HSB_UNIX)
        snprintf(buf, HSB_ADDRESS_TEXT_MAX, "unix:%.*s", (int)sizeof a->path - 1, a->path);
    else if (a->port == 0)
        snprintf(buf, HSB_ADDRESS_TEXT_MAX, "%s%s", number, zone);
    else if (a->family == HSB_IPV6)
        snprintf(buf, HSB_ADDRESS_TEXT_MAX, "[%s%s]:%u", number, zone, (unsigned)a->port);
    else
        snprintf(buf, HSB_ADDRESS_TEXT_MAX, "%s:%u", number, (unsigned)a->port);
    return buf;
}

/* Compares the port too, but not the bytes that the family does not use.              */
static bool hsb__address_equal(const hsb_address *a, const hsb_address *b)
{
    if (a->family != b->family || a->port != b->port)
        return false;
    if (a->family == HSB_UNIX)
        return strncmp(a->path, b->path, sizeof a->path) == 0;
    if (a->family == HSB_IPV4)
        return memcmp(a->bytes, b->bytes, 4) == 0;
    return memcmp(a->bytes, b->bytes, 16) == 0 && a->scope_id == b->scope_id;
}

/* Whether a Unix socket can be bound to path.  False: see *err, whose text begins with what.
   A path that fills sun_path is refused, too: not every system could tell it from a longer one. */
static bool hsb__address_check_path(hsb_str path, const char *what, hsb_error *err)
{
    if (path.len == 0)
        return hsb__error_set(err, HSB_ERR_MISUSE, 0, 0, "%s: no path", what);
    if (path.ptr[0] == '@')
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_INVALID, 0,
                              "%s: abstract sockets are not supported, as everybody may connect "
                              "to them", what);
    if (path.len >= HSB__UNIX_PATH)
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_LONG_NAME, 0,
                              "%.60s...: a Unix socket's path has at most %d bytes", what,
                              HSB__UNIX_PATH - 1);
    return true;
}

/* --- server names -----------------------------------------------------------------------
   A host name as it is compared: lower case, no dot at the end, letters, digits, '-' and
   '_' in labels of 1..63 bytes.  A number at the end makes it an IP address, and that is
   no server name (RFC 6066 3).                                                          */
enum { HSB__HOST_SIZE = 256 };

static bool hsb__host_is_label(hsb_str label)
{
    return label.len > 0 && label.len < 64 && hsb__byte_count(label, HSB__BYTE_LABEL) == label.len;
}

static bool hsb__host_is_number(hsb_str label)
{
    return hsb__byte_count(label, HSB__BYTE_DIGIT) == label.len;
}

static bool hsb__host_is_name(hsb_str name)
{
    size_t begin = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] != '.')
            continue;
        if (!hsb__host_is_label(hsb__text_make(name.ptr + begin, i - begin)))
            return false;
        begin = i + 1;
    }
    const hsb_str last = hsb__text_make(name.ptr + begin, name.len - begin);
    return hsb__host_is_label(last) && !hsb__host_is_number(last);
}

/* False: not a host name, and out is empty.                                             */
static bool hsb__host_normalise(char out[HSB__HOST_SIZE], hsb_str name)
{
    out[0] = '\0';
    if (name.len && name.ptr[name.len - 1] == '.')
        name.len--;
    if (name.len == 0 || name.len >= HSB__HOST_SIZE)
        return false;
    for (size_t i = 0; i < name.len; i++)
        out[i] = hsb__text_lower(name.ptr[i]);
    out[name.len] = '\0';
    if (hsb__host_is_name(hsb__text_make(out, name.len)))
        return true;
    out[0] = '\0';
    return false;
}

/* The same, but "*." may come before the name.                                          */
static bool hsb__host_normalise_pattern(char out[HSB__HOST_SIZE], hsb_str name)
{
    char rest[HSB__HOST_SIZE];
    if (name.len < 2 || name.ptr[0] != '*' || name.ptr[1] != '.')
        return hsb__host_normalise(out, name);
    if (!hsb__host_normalise(rest, hsb__text_make(name.ptr + 2, name.len - 2)) ||
        strlen(rest) + 3 > HSB__HOST_SIZE)
        return false;
    memcpy(out, "*.", 2);
    memcpy(out + 2, rest, strlen(rest) + 1);
    return true;
}

/* ===== >>resolver ================================================================
   Purpose  names to addresses; the only part that may block
   Uses     >>platform >>text >>error >>address
   Names    hsb__resolver_*
   Tests    tests/unit/resolver.c                                                    */

enum { HSB__RESOLVER_WHAT = 96 };       /* "bind www.example.org:443", cut if need be    */

/* Whether host, which hsb__address_parse has refused, is still meant as a number: the
   system reads "127.1", and "010.0.0.1" as 8.0.0.1, and no name has a colon.  The network
   must not be asked for it.                                                           */
static bool hsb__resolver_is_bad_number(const char *host)
{
    hsb__found *list = NULL;
    if (strchr(host, ':'))
        return true;
    if (hsb__os_lookup(host, HSB__LOOKUP_NUMBER, HSB_FAMILY_ANY, &list) != 0)
        return false;
    hsb__os_found_free(list);
    return true;
}

/* 127.0.0.0/8 (RFC 1122 3.2.1.3) and ::1 (RFC 4291 2.5.3).                            */
static bool hsb__resolver_is_loopback(const hsb_address *a)
{
    static const uint8_t v6[16] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };
    return a->family == HSB_IPV4 ? a->bytes[0] == 127 : memcmp(a->bytes, v6, sizeof v6) == 0;
}

/* Each address once: a hosts file often has 127.0.0.1 twice, and code that binds all that
   was found must not find its own port in use.                                        */
static int hsb__resolver_take(const hsb__found *list, bool only_loopback, hsb_address *out,
                              int max)
{
    int count = 0;
    while (list && count < max) {
        hsb_address *a = &out[count];
        int seen = 0;
        list = hsb__os_found_next(list, a);
        while (!hsb__address_equal(&out[seen], a))
            seen++;
        if (seen == count && a->family != HSB_FAMILY_ANY &&
            (!only_loopback || hsb__resolver_is_loopback(a)))
            count++;
    }
    return count;
}

/* How many addresses were stored.  *code is 0 if the system found any.                */
static int hsb__resolver_ask(const char *host, hsb__lookup which, hsb_family family,
                             bool only_loopback, hsb_address *out, int max, int *code)
{
    hsb__found *list = NULL;
    *code = hsb__os_lookup(host, which, family, &list);
    if (*code != 0)
        return 0;
    int count = hsb__resolver_take(list, only_loopback, out, max);
    hsb__os_found_free(list);
    return count;
}

/* Addresses that this machine can reach.  The system leaves out a family that no interface
   has an address of, and does not count loopback addresses for that.  So a second question
   finds "localhost" on a machine that has no other address of its family.             */
static int hsb__resolver_ask_reachable(const char *host, hsb_address *out, int max, int *code)
{
    int ignored;
    int count = hsb__resolver_ask(host, HSB__LOOKUP_REACHABLE, HSB_FAMILY_ANY, false, out, max,
                                  code);
    if (hsb__os_lookup_found_none(*code))
        count = hsb__resolver_ask(host, HSB__LOOKUP_ALL, HSB_FAMILY_ANY, true, out, max,
                                  &ignored);
    return count;
}

static int hsb__resolver_fail(hsb_error *err, const char *what, int code)
{
    if (code == HSB__LOOKUP_MEMORY)
        hsb__error_memory(err);
    else if (code == HSB__LOOKUP_SYSTEM)
        hsb__error_system(err, hsb__os_error(), what);
    else
        hsb__error_set(err, HSB_ERR_LOOKUP, code, 0, "%s: %s", what, hsb__os_lookup_text(code));
    return 0;
}

/* what: how the error's text begins                                                   */
static int hsb__resolver_find(const char *what, const char *host, hsb_family family,
                              hsb_address *out, int max, hsb_error *err)
{
    int code, count;
    if (hsb__address_parse(out, host)) {
        if (family == HSB_FAMILY_ANY || family == out->family)
            return 1;
        hsb__error_set(err, HSB_ERR_LOOKUP, HSB__LOOKUP_NO_NAME, 0,
                       "%s: not an IPv%c address", what, family == HSB_IPV4 ? '4' : '6');
        return 0;
    }
    if (hsb__resolver_is_bad_number(host)) {
        hsb__error_set(err, HSB_ERR_LOOKUP, HSB__LOOKUP_NO_NAME, 0,
                       "%s: not a well-formed address, or no such zone", what);
        return 0;
    }
    /* Addresses that this machine cannot reach are useless, unless asked for.          */
    if (family == HSB_FAMILY_ANY)
        count = hsb__resolver_ask_reachable(host, out, max, &code);
    else
        count = hsb__resolver_ask(host, HSB__LOOKUP_ALL, family, false, out, max, &code);
    return count ? count : hsb__resolver_fail(err, what, code ? code : HSB__LOOKUP_NO_NAME);
}

/* How many addresses of host were stored, max at most; 0: see *err.                    */
static int hsb__resolver_lookup(const char *host, hsb_family family,
                                hsb_address *out, int max, hsb_error *err)
{
    char what[HSB__RESOLVER_WHAT];
    snprintf(what, sizeof what, "lookup %.80s", host);
    return hsb__resolver_find(what, host, family, out, max, err);
}

/* "unix:" before it: a path.  No resolver is asked, and the port does not matter.       */
static bool hsb__resolver_bind_path(hsb_address *out, hsb_str path, const char *host,
                                    hsb_error *err)
{
    char what[HSB__RESOLVER_WHAT];
    snprintf(what, sizeof what, "bind %.88s", host);
    if (!hsb__address_check_path(path, what, err))
        return false;
    memset(out, 0, sizeof *out);
    out->family = HSB_UNIX;
    memcpy(out->path, path.ptr, path.len);
    return true;
}

/* Where to bind: the first answer, with the port, which must be within 0..65535.       */
static bool hsb__resolver_bind_address(hsb_address *out, const char *host, int port,
                                       hsb_error *err)
{
    static const char scheme[] = "unix:";
    char what[HSB__RESOLVER_WHAT];
    if (strncmp(host, scheme, strlen(scheme)) == 0)
        return hsb__resolver_bind_path(out, hsb__text_of(host + strlen(scheme)), host, err);
    snprintf(what, sizeof what, strchr(host, ':') ? "bind [%.72s]:%d" : "bind %.72s:%d",
             host, port);
    if (port < 0 || port > UINT16_MAX)
        return hsb__error_set(err, HSB_ERR_MISUSE, 0, 0, "%s: no such port", what);
    if (!hsb__resolver_find(what, host, HSB_FAMILY_ANY, out, 1, err))
        return false;
    out->port = (uint16_t)port;
    return true;
}

/* ===== >>poller ==================================================================
   Purpose  which descriptors are ready: epoll, kqueue or poll behind the same functions
   Uses     >>platform >>memory >>error
   Names    hsb__poller_*, hsb__watch, HSB__READ, HSB__WRITE, HSB__BROKEN
   Tests    tests/unit/poller.c; HSB_USE_POLL, HSB_USE_KQUEUE with tests/compile/shim    */

/* The events of a watch.  They are level-triggered: reported in each turn until they are
   dealt with or no longer wanted.  BROKEN, a reset or a hang-up, is reported always, until
   the watch is dropped.  The peer's FIN is READ.                                       */
enum { HSB__READ = 1, HSB__WRITE = 2, HSB__BROKEN = 4, HSB__WATCHED = 8 };

typedef struct hsb__watch {
    hsb__socket   fd;
    unsigned char armed;    /* what the system was asked for, with HSB__WATCHED; 0: the
                               watch was not added.  Owner: the poller                 */
    int           place;    /* in the poll backend's arrays.  Owner: the poller        */
    void        (*ready)(struct hsb__watch *, unsigned events);
    void         *owner;
} hsb__watch;

enum { HSB__POLLER_BATCH = 64 };
typedef struct hsb__event { hsb__watch *watch; unsigned events; } hsb__event;

/* Waiting fills the batch, dispatching empties it.  Between the two, and while a ready
   function runs, a dropped watch leaves the batch: it may be freed at once.            */
typedef struct hsb__poller {
    hsb__memory    *memory;
    hsb__event      batch[HSB__POLLER_BATCH];
    int             batch_len;
#ifdef HSB__POLL
    struct pollfd  *fds;            /* both of space entries, count of them in use      */
    hsb__watch    **watches;
    int             count, space;
    int             next;           /* where the next search for ready ones begins      */
#else
    int             fd;
#endif
} hsb__poller;

/* --- epoll ------------------------------------------------------------------------- */
#ifdef HSB__EPOLL

static bool hsb__poller_open_system(hsb__poller *p)
{
    p->fd = epoll_create1(EPOLL_CLOEXEC);
    return p->fd >= 0;
}

static void hsb__poller_close_system(hsb__poller *p)
{
    hsb__os_close(p->fd);
}

static bool hsb__poller_tell_system(hsb__poller *p, hsb__watch *w, unsigned want)
{
    struct epoll_event e;
    memset(&e, 0, sizeof e);
    e.events = (want & HSB__READ ? EPOLLIN : 0u) | (want & HSB__WRITE ? EPOLLOUT : 0u);
    e.data.ptr = w;
    return epoll_ctl(p->fd, w->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &e) == 0;
}

/* Closing the descriptor is not enough: a duplicate elsewhere keeps it registered.     */
static void hsb__poller_forget_system(hsb__poller *p, hsb__watch *w)
{
    struct epoll_event unused;
    memset(&unused, 0, sizeof unused);
    epoll_ctl(p->fd, EPOLL_CTL_DEL, w->fd, &unused);
}

static unsigned hsb__poller_events(uint32_t got)
{
    return (got & EPOLLIN ? HSB__READ : 0u) | (got & EPOLLOUT ? HSB__WRITE : 0u) |
           (got & (EPOLLERR | EPOLLHUP) ? HSB__BROKEN : 0u);
}

static int hsb__poller_collect_system(hsb__poller *p, int timeout_ms)
{
    struct epoll_event got[HSB__POLLER_BATCH];
    int n = epoll_wait(p->fd, got, HSB__POLLER_BATCH, timeout_ms);
    for (int i = 0; i < n; i++) {
        p->batch[i].watch = got[i].data.ptr;
        p->batch[i].events = hsb__poller_events(got[i].events);
    }
    return n;
}

static int hsb__poller_fd(const hsb__poller *p)
{
    return p->fd;
}

#endif

/* --- kqueue ------------------------------------------------------------------------ */
#ifdef HSB__KQUEUE

static bool hsb__poller_open_system(hsb__poller *p)
{
    p->fd = kqueue();
    if (p->fd < 0)
        return false;
    fcntl(p->fd, F_SETFD, FD_CLOEXEC);      /* a fork does not inherit it anyway         */
    return true;
}

static void hsb__poller_close_system(hsb__poller *p)
{
    hsb__os_close(p->fd);
}

/* The read filter is always set, because it is the one that reports a reset.  While READ
   is not wanted it is edge-triggered (EV_CLEAR), so that unread bytes wake us once and not
   for ever.  The trigger of a filter cannot be changed: it is deleted and added again.  */
static bool hsb__poller_tell_system(hsb__poller *p, hsb__watch *w, unsigned want)
{
    struct kevent change[3];
    uintptr_t fd = (uintptr_t)w->fd;
    unsigned short add_read = want & HSB__READ ? EV_ADD : EV_ADD | EV_CLEAR;
    unsigned short set_write = want & HSB__WRITE ? EV_ADD : EV_DELETE;
    unsigned differs = w->armed ^ want;
    int n = 0;
    if (w->armed && differs & HSB__READ)
        EV_SET(&change[n++], fd, EVFILT_READ, EV_DELETE, 0, 0, w);
    if (!w->armed || differs & HSB__READ)
        EV_SET(&change[n++], fd, EVFILT_READ, add_read, 0, 0, w);
    if (differs & HSB__WRITE)
        EV_SET(&change[n++], fd, EVFILT_WRITE, set_write, 0, 0, w);
    return kevent(p->fd, change, n, NULL, 0, NULL) == 0;
}

static void hsb__poller_forget_system(hsb__poller *p, hsb__watch *w)
{
    struct kevent change[2];
    int n = 0;
    EV_SET(&change[n++], (uintptr_t)w->fd, EVFILT_READ, EV_DELETE, 0, 0, w);
    if (w->armed & HSB__WRITE)
        EV_SET(&change[n++], (uintptr_t)w->fd, EVFILT_WRITE, EV_DELETE, 0, 0, w);
    kevent(p->fd, change, n, NULL, 0, NULL);
}

/* EV_EOF on the read filter is a FIN, or a reset if fflags has the socket's error.  On the
   write filter it says that the peer does not read any more.                           */
static unsigned hsb__poller_events(const struct kevent *got)
{
    unsigned events = got->filter == EVFILT_READ ? HSB__READ : HSB__WRITE;
    bool eof = got->flags & EV_EOF;
    if (got->flags & EV_ERROR || (eof && (got->fflags || events == HSB__WRITE)))
        events |= HSB__BROKEN;
    return events;
}

static int hsb__poller_collect_system(hsb__poller *p, int timeout_ms)
{
    struct kevent got[HSB__POLLER_BATCH];
    struct timespec t;
    t.tv_sec = timeout_ms / 1000;
    t.tv_nsec = timeout_ms % 1000 * 1000000L;
    int n = kevent(p->fd, NULL, 0, got, HSB__POLLER_BATCH, timeout_ms < 0 ? NULL : &t);
    for (int i = 0; i < n; i++) {
        p->batch[i].watch = (hsb__watch *)got[i].udata;
        p->batch[i].events = hsb__poller_events(&got[i]);
    }
    return n;
}

static int hsb__poller_fd(const hsb__poller *p)
{
    return p->fd;
}

#endif

/* --- poll -------------------------------------------------------------------------- */
#ifdef HSB__POLL

static bool hsb__poller_open_system(hsb__poller *p)
{
    (void)p;                        /* zeroed is open                                   */
    return true;
}

static void hsb__poller_close_system(hsb__poller *p)
{
    hsb__memory_free(p->memory, p->fds, (size_t)p->space * sizeof *p->fds);
    hsb__memory_free(p->memory, p->watches, (size_t)p->space * sizeof *p->watches);
}

static bool hsb__poller_grow(hsb__poller *p)
{
    size_t old = (size_t)p->space, space = old ? old * 2 : 16;
    struct pollfd *fds = hsb__memory_array(p->memory, space, sizeof *fds);
    hsb__watch **watches = hsb__memory_array(p->memory, space, sizeof *watches);
    if (!fds || !watches) {
        hsb__memory_free(p->memory, fds, space * sizeof *fds);
        hsb__memory_free(p->memory, watches, space * sizeof *watches);
        errno = ENOMEM;
        return false;
    }
    if (old) {
        memcpy(fds, p->fds, old * sizeof *fds);
        memcpy(watches, p->watches, old * sizeof *watches);
    }
    hsb__poller_close_system(p);
    p->fds = fds;
    p->watches = watches;
    p->space = (int)space;
    return true;
}

static bool hsb__poller_tell_system(hsb__poller *p, hsb__watch *w, unsigned want)
{
    if (!w->armed) {
        if (p->count == p->space && !hsb__poller_grow(p))
            return false;
        w->place = p->count++;
        p->watches[w->place] = w;
        p->fds[w->place].fd = w->fd;
        p->fds[w->place].revents = 0;
    }
    p->fds[w->place].events = (short)((want & HSB__READ ? POLLIN : 0) |
                                      (want & HSB__WRITE ? POLLOUT : 0));
    return true;
}

/* The last entry moves into the gap.                                                   */
static void hsb__poller_forget_system(hsb__poller *p, hsb__watch *w)
{
    int last = --p->count;
    p->fds[w->place] = p->fds[last];
    p->watches[w->place] = p->watches[last];
    p->watches[w->place]->place = w->place;
}

static unsigned hsb__poller_events(short got)
{
    return (got & POLLIN ? HSB__READ : 0u) | (got & POLLOUT ? HSB__WRITE : 0u) |
           (got & (POLLERR | POLLHUP | POLLNVAL) ? HSB__BROKEN : 0u);
}

/* If more are ready than a batch holds, the next batch begins after this one's last.    */
static int hsb__poller_collect_system(hsb__poller *p, int timeout_ms)
{
    int n = poll(p->fds, (nfds_t)p->count, timeout_ms), len = 0;
    if (n < 0)
        return n;
    for (int looked = 0; looked < p->count && len < n && len < HSB__POLLER_BATCH; looked++) {
        int at = p->next < p->count ? p->next : 0;
        p->next = at + 1;
        if (p->fds[at].revents) {
            p->batch[len].watch = p->watches[at];
            p->batch[len++].events = hsb__poller_events(p->fds[at].revents);
        }
    }
    return len;
}

static int hsb__poller_fd(const hsb__poller *p)
{
    (void)p;
    return -1;                      /* poll has no descriptor for all of them           */
}

#endif

/* --- the same for all three -------------------------------------------------------- */
static bool hsb__poller_open(hsb__poller *p, hsb__memory *m, hsb_error *err)
{
    memset(p, 0, sizeof *p);
    p->memory = m;
    if (!hsb__poller_open_system(p) || hsb__os_fails(HSB_FAULT("poller", NULL)))
        return hsb__error_system(err, hsb__os_error(), "poller");
    return true;
}

static void hsb__poller_close(hsb__poller *p)
{
    hsb__poller_close_system(p);
}

static bool hsb__poller_tell(hsb__poller *p, hsb__watch *w, unsigned want)
{
    if (hsb__os_fails(HSB_FAULT("watch", NULL)) || !hsb__poller_tell_system(p, w, want))
        return false;
    w->armed = (unsigned char)(want | HSB__WATCHED);
    return true;
}

/* want: HSB__READ, HSB__WRITE, both or 0.  False: see hsb__os_error.  w was not added, or,
   after hsb__poller_set, wants what it wanted before.                                   */
static bool hsb__poller_add(hsb__poller *p, hsb__watch *w, unsigned want)
{
    HSB_ASSERT(!w->armed);
    return hsb__poller_tell(p, w, want);
}

static bool hsb__poller_set(hsb__poller *p, hsb__watch *w, unsigned want)
{
    HSB_ASSERT(w->armed);
    return w->armed == (want | HSB__WATCHED) || hsb__poller_tell(p, w, want);
}

/* Call it before the descriptor is closed.  A watch that was never added is left alone. */
static void hsb__poller_drop(hsb__poller *p, hsb__watch *w)
{
    if (!w->armed)
        return;
    hsb__poller_forget_system(p, w);
    w->armed = 0;
    for (int i = 0; i < p->batch_len; i++)
        if (p->batch[i].watch == w)
            p->batch[i].watch = NULL;
}

static int hsb__poller_ask(hsb__poller *p, int timeout_ms)
{
    if (hsb__os_fails(HSB_FAULT("poll", NULL)))
        return -1;
    return hsb__poller_collect_system(p, timeout_ms);
}

/* Waits, but calls no ready function.  timeout_ms -1: until something is ready.  A signal
   ends the wait, and what is ready by then is collected.  False: more may be ready than
   the batch holds.                                                                      */
static bool hsb__poller_collect(hsb__poller *p, int timeout_ms)
{
    HSB_ASSERT(p->batch_len == 0);      /* a ready function must not wait                */
    int n = hsb__poller_ask(p, timeout_ms);
    if (n < 0 && hsb__os_was_interrupted())
        n = hsb__poller_ask(p, 0);
    p->batch_len = n > 0 ? n : 0;
    return n >= 0 && n < HSB__POLLER_BATCH;
}

/* Calls the ready functions of the batch, but not for events that are no longer wanted.
   Returns how many calls.  A kqueue reports READ and WRITE in two calls.                */
static int hsb__poller_dispatch(hsb__poller *p)
{
    int calls = 0;
    for (int i = 0; i < p->batch_len; i++) {
        hsb__watch *w = p->batch[i].watch;
        unsigned events = w ? p->batch[i].events & (w->armed | HSB__BROKEN) : 0;
        if (events) {
            w->ready(w, events);
            calls++;
        }
    }
    p->batch_len = 0;
    return calls;
}

/* ===== >>listener ================================================================
   Purpose  listening sockets: bind, share within the process, accept with care
   Uses     >>platform >>text >>error >>address >>poller
   Names    hsb__listener_*, hsb__listeners
   Tests    tests/unit/listener.c, tests/live                                        */

/* What a client has to do: nothing, TLS, TLS and be asked for a certificate, show one.  */
typedef enum hsb__demand {
    HSB__DEMAND_NOTHING, HSB__DEMAND_TLS, HSB__DEMAND_REQUEST, HSB__DEMAND_CERTIFICATE
} hsb__demand;

/* Listeners that share a port have duplicates of one socket.  Each closes its own; the last
   one closes the port, and only then are the connections in the backlog lost.  All
   listeners that were bound in this process are in the registry, shared or not, where the
   next bind of the same address finds them.  The registry links the listeners themselves,
   so an open one must stay where it is.                                               */
typedef struct hsb__listener {
    hsb__watch  watch;          /* .fd is set here, -1 unless open; .ready and .owner are
                                   the server's to set                                 */
    hsb_address address;        /* as bound                                            */
    /* Set by open, then only read, by the other sharers too.                           */
    hsb_address wanted;         /* as asked for, with the port we got                  */
    bool        v6_only, shared, proxied;   /* these four are the server's to set      */
    hsb__demand demand;
    hsb__socket_file file;      /* of a Unix socket that we have bound                 */
    /* For hsb__listener_my_turn.  Atomic: other sharers' threads read them.            */
    size_t      live;           /* connections open                                    */
    size_t      accepted;       /* accepted so far                                     */
    size_t      waits;          /* 1: our thread waits in the poller for a connection  */
    /* For hsb__listener_my_turn.  Only our thread uses them.                           */
    bool        passed;         /* the last turn was left to another sharer, when      */
    size_t      passed_at;      /*   all sharers together had accepted so many         */
    struct hsb__listener *next; /* under the registry's lock                           */
} hsb__listener;

static hsb__listener *hsb__listeners;
static hsb__mutex hsb__listeners_lock = HSB__MUTEX_INIT;

/* --- sockets ----------------------------------------------------------------------- */
/* A socket that listens, or HSB__NO_SOCKET; *bound: its address.                       */
static hsb__socket hsb__listener_make(const hsb_address *a, int backlog, bool v6_only,
                                      hsb_address *bound)
{
    hsb__socket s = hsb__os_socket(a->family, v6_only);
    if (s == HSB__NO_SOCKET)
        return s;
    if (hsb__os_bind(s, a) && hsb__os_listen(s, backlog) && hsb__os_local_address(s, bound))
        return s;
    hsb__os_close(s);
    return HSB__NO_SOCKET;
}

/* Browsers refuse port 65535.  If the system picks it, we keep it while the system picks
   again, so that it picks another.                                                     */
static hsb__socket hsb__listener_make_usable(const hsb_address *a, int backlog, bool v6_only,
                                             hsb_address *bound)
{
    hsb__socket s = hsb__listener_make(a, backlog, v6_only, bound);
    if (s == HSB__NO_SOCKET || a->port != 0 || bound->port != UINT16_MAX)
        return s;
    hsb__socket other = hsb__listener_make(a, backlog, v6_only, bound);
    hsb__os_close(s);
    return other;
}

/* --- Unix sockets ---------------------------------------------------------------------- */
/* Whether a file that keeps us from binding was a socket that nobody listens on, and is gone.
   It is looked at twice, so that what another program has bound meanwhile stays.        */
static bool hsb__listener_remove_stale(const hsb_address *a)
{
    hsb__socket_file file;
    return hsb__os_socket_file(a->path, &file) && hsb__os_is_stale(a) &&
           hsb__os_remove_socket_file(a->path, &file);
}

static bool hsb__listener_bind_unix(hsb__socket s, const hsb_address *a)
{
    if (hsb__os_bind(s, a))
        return true;
    if (hsb__os_error() != HSB__OS_IN_USE)
        return false;
    if (hsb__listener_remove_stale(a))
        return hsb__os_bind(s, a);
    hsb__os_set_error(HSB__OS_IN_USE);
    return false;
}

/* *file: what was made, for the close to remove.                                       */
static hsb__socket hsb__listener_make_unix(const hsb_address *a, int backlog, hsb_address *bound,
                                           hsb__socket_file *file)
{
    hsb__socket s = hsb__os_socket(HSB_UNIX, false);
    if (s == HSB__NO_SOCKET)
        return s;
    if (hsb__listener_bind_unix(s, a)) {
        hsb__os_socket_file(a->path, file);
        if (hsb__os_listen(s, backlog) && hsb__os_local_address(s, bound))
            return s;
        int code = hsb__os_error();
        hsb__os_remove_socket_file(a->path, file);
        hsb__os_set_error(code);
    }
    hsb__os_close(s);
    return HSB__NO_SOCKET;
}

/* --- the registry; its lock is held -------------------------------------------------- */
static hsb__listener *hsb__listener_find(const hsb_address *a)
{
    hsb__listener *l = hsb__listeners;
    while (l && !hsb__address_equal(&l->wanted, a))
        l = l->next;
    return l;
}

static void hsb__listener_enlist(hsb__listener *l)
{
    l->next = hsb__listeners;
    hsb__listeners = l;
}

static void hsb__listener_delist(hsb__listener *l)
{
    hsb__listener **link = &hsb__listeners;
    while (*link && *link != l)
        link = &(*link)->next;
    if (*link)
        *link = l->next;
}

/* "bind 127.0.0.1:443"                                                                 */
enum { HSB__LISTENER_WHAT = HSB_ADDRESS_TEXT_MAX + 24 };

static const char *hsb__listener_what(char out[HSB__LISTENER_WHAT], const char *verb,
                                      const hsb_address *a)
{
    char text[HSB_ADDRESS_TEXT_MAX];
    snprintf(out, HSB__LISTENER_WHAT, "%s %s%s", verb, hsb__address_text(a, text),
             a->port || a->family == HSB_UNIX ? "" : " (any port)");
    return out;
}

/* The error is read first, because looking up the name of a zone may change it.         */
static bool hsb__listener_fail(hsb_error *err, const char *verb, const hsb_address *a)
{
    char what[HSB__LISTENER_WHAT];
    int code = hsb__os_error();
    return hsb__error_system(err, code, hsb__listener_what(what, verb, a));
}

/* Looking at the file may change the error as well.                                    */
static bool hsb__listener_fail_unix(hsb_error *err, const hsb_address *a)
{
    char what[HSB__LISTENER_WHAT];
    hsb__socket_file file;
    int code = hsb__os_error();
    hsb__listener_what(what, "bind", a);
    if (code == HSB__OS_IN_USE && !hsb__os_socket_file(a->path, &file))
        return hsb__error_set(err, HSB_ERR_SYSTEM, code, 0, "%s: the file is not a socket", what);
    return hsb__error_system(err, code, what);
}

/* Why two listeners cannot share a port, or NULL.  What protects the port must be the same
   for all: a client cannot choose which sharer it meets.                               */
static const char *hsb__listener_differs(const hsb__listener *a, const hsb__listener *b)
{
    if (!a->shared || !b->shared)
        return "not shared by both";
    if (a->v6_only != b->v6_only)
        return "v6_only differs";
    if ((a->demand == HSB__DEMAND_NOTHING) != (b->demand == HSB__DEMAND_NOTHING))
        return "only one of them speaks TLS";
    if (a->demand != b->demand)
        return "only one of them requests, or requires, a client certificate";
    if (a->proxied != b->proxied)
        return "only one of them expects PROXY headers";
    return NULL;
}

static bool hsb__listener_may_join(const hsb__listener *l, const hsb__listener *other,
                                   hsb_error *err)
{
    char what[HSB__LISTENER_WHAT];
    const char *differs = hsb__listener_differs(l, other);
    if (!differs)
        return true;
    hsb__listener_what(what, "bind", &other->wanted);
    return hsb__error_set(err, HSB_ERR_SHARED, 0, 0,
                          "%s: already bound in this process, and %s", what, differs);
}

/* Nobody else has the address: a socket of our own                                     */
static bool hsb__listener_start(hsb__listener *l, const hsb_address *a, int backlog,
                                hsb_error *err)
{
    l->watch.fd = hsb__listener_make_usable(a, backlog, l->v6_only, &l->address);
    if (l->watch.fd == HSB__NO_SOCKET)
        return hsb__listener_fail(err, "bind", a);
    l->wanted = *a;
    l->wanted.port = l->address.port;
    return true;
}

/* The same for a Unix socket, which is never shared.                                   */
static bool hsb__listener_start_unix(hsb__listener *l, const hsb_address *a, int backlog,
                                     hsb_error *err)
{
    char what[HSB__LISTENER_WHAT];
    hsb__listener_what(what, "bind", a);
    if (!hsb__address_check_path(hsb__text_make(a->path, strnlen(a->path, sizeof a->path)), what,
                                 err))
        return false;
    if (l->shared)
        return hsb__error_set(err, HSB_ERR_SHARED, 0, 0, "%s: a Unix socket cannot be shared",
                              what);
    l->watch.fd = hsb__listener_make_unix(a, backlog, &l->address, &l->file);
    if (l->watch.fd == HSB__NO_SOCKET)
        return hsb__listener_fail_unix(err, a);
    l->wanted = *a;
    return true;
}

/* The new sharer starts with the count of another, so that it need not catch up.       */
static bool hsb__listener_join(hsb__listener *l, const hsb__listener *other, hsb_error *err)
{
    l->watch.fd = hsb__os_duplicate(other->watch.fd);
    if (l->watch.fd == HSB__NO_SOCKET)
        return hsb__listener_fail(err, "bind", &other->wanted);
    l->address = other->address;
    l->wanted = other->wanted;
    l->accepted = hsb__atomic_get(&other->accepted);
    return true;
}

/* An address that was left zero must not pass for "::".                                 */
static bool hsb__listener_no_address(const hsb_address *a, hsb_error *err)
{
    char what[HSB__LISTENER_WHAT];
    hsb__listener_what(what, "bind", a);
    return hsb__error_set(err, HSB_ERR_MISUSE, 0, 0, "%s: not IPv4, IPv6 or a Unix socket", what);
}

/* --- for the server ------------------------------------------------------------------ */
/* l is zeroed, but for what the server sets.  backlog 0: SOMAXCONN.                     */
static bool hsb__listener_open(hsb__listener *l, const hsb_address *a, int backlog,
                               hsb_error *err)
{
    bool ok;
    l->watch.fd = HSB__NO_SOCKET;
    if (a->family != HSB_IPV4 && a->family != HSB_IPV6 && a->family != HSB_UNIX)
        return hsb__listener_no_address(a, err);
    hsb__mutex_lock(&hsb__listeners_lock);
    const hsb__listener *other = NULL;
    if (a->port && a->family != HSB_UNIX)
        other = hsb__listener_find(a);
    if (a->family == HSB_UNIX)
        ok = hsb__listener_start_unix(l, a, backlog, err);
    else if (other)
        ok = hsb__listener_may_join(l, other, err) &&
             hsb__listener_join(l, other, err);
    else
        ok = hsb__listener_start(l, a, backlog, err);
    if (ok)
        hsb__listener_enlist(l);
    hsb__mutex_unlock(&hsb__listeners_lock);
    return ok;
}

/* A socket that the application made listen.  It stays outside the registry.  False: s is
   still the caller's.                                                                  */
static bool hsb__listener_adopt(hsb__listener *l, hsb__socket s, hsb_error *err)
{
    char what[32];
    l->watch.fd = HSB__NO_SOCKET;
    l->v6_only = l->shared = false;
    snprintf(what, sizeof what, "descriptor %d", s);
    bool fits = hsb__os_listens(s) && hsb__os_local_address(s, &l->address) &&
                l->address.family != HSB_FAMILY_ANY;
    if (!fits && hsb__os_error() != HSB__OS_BAD_DESCRIPTOR)
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_INVALID, 0,
                              "%s: not a TCP or Unix socket that listens", what);
    if (!fits || !hsb__os_prepare(s))
        return hsb__error_system(err, hsb__os_error(), what);
    l->watch.fd = s;
    return true;
}

/* The caller has dropped the watch: a duplicate would keep it registered.  The socket is
   closed under the lock, so that an address that is not in the registry can be bound.  A Unix
   socket's file goes first: see hsb__socket_file.                                      */
static void hsb__listener_close(hsb__listener *l)
{
    hsb__mutex_lock(&hsb__listeners_lock);
    hsb__listener_delist(l);
    hsb__os_remove_socket_file(l->wanted.path, &l->file);
    l->file.made = false;
    hsb__os_close(l->watch.fd);
    l->watch.fd = HSB__NO_SOCKET;
    hsb__mutex_unlock(&hsb__listeners_lock);
}

typedef enum hsb__accepted {
    HSB__ACCEPTED,
    HSB__ACCEPT_EMPTY,      /* none waits, or another sharer was faster                 */
    HSB__ACCEPT_AGAIN,      /* one was lost, see *err; the next may be good              */
    HSB__ACCEPT_PAUSE       /* see *err; it would fail again at once                     */
} hsb__accepted;

static hsb__accepted hsb__listener_accept(hsb__listener *l, hsb__socket *accepted,
                                          hsb_address *peer, hsb_error *err)
{
    *accepted = hsb__os_accept(l->watch.fd, peer);
    if (*accepted != HSB__NO_SOCKET) {
        if (l->address.family == HSB_UNIX)
            peer->family = HSB_UNIX;    /* some systems give no address at all            */
        hsb__atomic_add(&l->accepted, 1);
        return HSB__ACCEPTED;
    }
    if (hsb__os_would_block())
        return HSB__ACCEPT_EMPTY;
    bool lost_one = hsb__os_accept_lost_one(hsb__os_error());
    hsb__listener_fail(err, "accept on", &l->address);
    return lost_one ? HSB__ACCEPT_AGAIN : HSB__ACCEPT_PAUSE;
}

/* --- whose turn it is ----------------------------------------------------------------- */
/* A connection wakes every sharer that waits for one.  The sharer with the fewest open
   connections should accept it; among equals, the one that has accepted the fewest.  So a
   sharer that sees a lighter one waiting passes: it stops watching for a millisecond.  A
   thread that is busy, stuck or passing does not count as waiting, so nothing is left to it. */
static bool hsb__listener_lighter(const hsb__listener *a, const hsb__listener *b)
{
    size_t a_live = hsb__atomic_get(&a->live), b_live = hsb__atomic_get(&b->live);
    if (a_live + 1 < b_live || b_live + 1 < a_live)     /* one more or less is chance       */
        return a_live < b_live;
    return hsb__atomic_get(&a->accepted) < hsb__atomic_get(&b->accepted);
}

/* Whether to accept now.  A sharer that has passed, and finds that no sharer has accepted
   one since, accepts it: no connection waits for longer than that millisecond.            */
static bool hsb__listener_my_turn(hsb__listener *l)
{
    size_t accepted = 0;
    bool lighter = false;
    if (!l->shared)
        return true;
    hsb__mutex_lock(&hsb__listeners_lock);
    for (const hsb__listener *o = hsb__listeners; o; o = o->next) {
        if (!hsb__address_equal(&o->wanted, &l->wanted))
            continue;
        accepted += hsb__atomic_get(&o->accepted);
        if (o != l && hsb__atomic_get(&o->waits) && hsb__listener_lighter(o, l))
            lighter = true;
    }
    hsb__mutex_unlock(&hsb__listeners_lock);
    bool left_to_us = l->passed && l->passed_at == accepted;
    l->passed = lighter && !left_to_us;
    l->passed_at = accepted;
    return !l->passed;
}

/* +1: a connection was opened, -1: closed                                              */
static void hsb__listener_count(hsb__listener *l, int change)
{
    if (change > 0)
        hsb__atomic_add(&l->live, 1);
    else
        hsb__atomic_sub(&l->live, 1);
}

/* The server calls this before (true) and after (false) it waits in the poller: before what
   was collected is dispatched, because that may take long.                                 */
static void hsb__listener_set_waiting(hsb__listener *l, bool in_poller)
{
    bool waited = hsb__atomic_get(&l->waits);
    bool waits = in_poller && l->shared && (l->watch.armed & HSB__READ);
    if (waits && !waited)
        hsb__atomic_add(&l->waits, 1);
    else if (!waits && waited)
        hsb__atomic_sub(&l->waits, 1);
}

/* ===== >>inbox ===================================================================
   Purpose  what other threads and signal handlers leave for the server's thread: posts,
            resumed tickets, flags for close and wake; and the calls for later of posts,
            requests and streams
   Uses     >>platform >>memory >>list >>error >>timer >>poller
   Names    hsb__inbox_*, hsb__after_*, hsb__post_*, hsb__promise_*
   Tests    tests/unit/inbox.c, tests/unit/tickets.c, tests/unit/loop.c, tests/live/threads.c */

/* The application's function of a post, a ticket, or a call for later.                */
typedef union hsb__resume {
    void (*server)(hsb_server *, void *arg);
    void (*request)(hsb_request *, void *arg);
    void (*stream)(hsb_stream *, void *arg);
} hsb__resume;

/* Calls fn, if it is not NULL, for an owner, and schedules the owner's connection.  Each
   kind of owner has one such function.  owner NULL: it has ended.                     */
typedef void hsb__caller(void *owner, hsb__resume fn, void *arg);

/* --- calls for later ------------------------------------------------------------------- */
typedef struct hsb__after {
    hsb__link    link;              /* in the inbox's posts, or in a list of the owner's */
    hsb__timer   timer;             /* used on the server's thread only                */
    hsb__memory *memory;            /* where this block came from, or                  */
    hsb__pool   *pool;              /*   if not NULL, the pool                         */
    size_t       size;
    hsb__caller *call;
    void        *owner;
    hsb__resume  fn;
    void        *arg;
    int          delay_ms;
} hsb__after;

static void hsb__after_cancel(hsb__after *a)
{
    hsb__timer_cancel(&a->timer);
    hsb__link_remove(&a->link);
    if (a->pool)
        hsb__pool_put(a->pool, a, a->size);
    else
        hsb__memory_free(a->memory, a, a->size);
}

static void hsb__after_cancel_all(hsb__link *list)
{
    for (hsb__link *link; (link = hsb__link_first(list)) != NULL;)
        hsb__after_cancel(HSB__OWNER(hsb__after, link, link));
}

static void hsb__after_run(hsb__after *a)
{
    hsb__after copy = *a;
    hsb__after_cancel(a);
    copy.call(copy.owner, copy.fn, copy.arg);
}

static void hsb__after_fire(hsb__timer *timer)
{
    hsb__after_run(timer->owner);
}

/* Starts a call for later.  The delay counts from now, not from the start of the
   turn.  Until it is called it is in list, which can cancel it.                       */
static void hsb__after_start(hsb__after *a, hsb__link *list, hsb__timers *timers)
{
    uint64_t delay = a->delay_ms > 0 ? (uint64_t)a->delay_ms : 0;
    hsb__link_add(list, &a->link);
    a->timer.fire = hsb__after_fire;
    a->timer.owner = a;
    hsb__timer_set(timers, &a->timer, hsb__os_now_us() / 1000 + delay + 1);
}

/* --- the inbox ------------------------------------------------------------------------- */
/* A promise is what a ticket stands for.  Its life: FREE -> OPEN [promise] -> RESUMED or
   DROPPED [settle] -> FREE [take].  The open promises of one request or stream form a
   list, so that its end can take it out of all of them.                               */
typedef enum hsb__promised {
    HSB__PROMISE_FREE, HSB__PROMISE_OPEN, HSB__PROMISE_RESUMED, HSB__PROMISE_DROPPED
} hsb__promised;

typedef struct hsb__promise {
    hsb__promised state;
    uint32_t     generation;        /* of the ticket that fits                         */
    uint32_t     next;              /* in the unused or the settled list; index + 1    */
    uint32_t     older, newer;      /* in the owner's list; index + 1                  */
    uint32_t    *newest;            /* the owner's head of it; NULL: the owner has ended */
    void        *owner;
    hsb__caller *call;
    hsb__resume  fn;
    void        *arg;
} hsb__promise;

enum { HSB__INBOX_CLOSE = 1, HSB__INBOX_FORCE = 2, HSB__INBOX_WAKE = 4 };

enum { HSB__INBOX_PROMISES = 1024 };        /* settled in one turn                      */

/* The server and each open ticket hold a reference, so it may outlive the server.     */
typedef struct hsb__inbox {
    hsb__memory   memory;
    hsb__mutex    lock;             /* guards all from here to settled_last            */
    size_t        references;
    bool          closed;           /* the server has ended                            */
    hsb__link     posts;
    hsb__promise *promises;
    uint32_t      space;            /* promises allocated                              */
    uint32_t      unused, settled, settled_last;        /* lists; index + 1            */
    int           flags;            /* HSB__INBOX_*; atomic, set in signal handlers    */
    hsb__wake     wake;
    /* Only the server's thread uses these.                                            */
    hsb__poller  *poller;           /* that watches the wake-up; NULL: not yet         */
    hsb__watch    watch;
    bool          rung;             /* it rang, and nobody has looked since            */
    hsb__link     delayed;          /* posts that wait for their time                  */
} hsb__inbox;

static hsb__inbox *hsb__inbox_new(const hsb_allocator *allocator, hsb_error *err)
{
    hsb__memory memory;
    memset(&memory, 0, sizeof memory);
    memory.user = *allocator;
    hsb__inbox *in = hsb__memory_zeroed(&memory, sizeof *in);
    if (!in) {
        hsb__error_memory(err);
        return NULL;
    }
    in->memory = memory;
    in->references = 1;
    if (!hsb__wake_open(&in->wake)) {
        hsb__error_system(err, hsb__os_error(), "wake-up descriptor");
        hsb__wake_close(&in->wake);
        hsb__memory_free(&memory, in, sizeof *in);
        return NULL;
    }
    hsb__mutex_init(&in->lock);
    return in;
}

/* The caller holds the lock.  The last reference to be released frees the inbox.      */
static void hsb__inbox_unlock_release(hsb__inbox *in)
{
    bool last = --in->references == 0;
    hsb__mutex_unlock(&in->lock);
    if (!last)
        return;
    hsb__memory memory = in->memory;
    hsb__mutex_done(&in->lock);
    hsb__memory_free(&memory, in->promises, in->space * sizeof *in->promises);
    hsb__memory_free(&memory, in, sizeof *in);
}

static void hsb__inbox_ready(hsb__watch *watch, unsigned events)
{
    hsb__inbox *in = watch->owner;
    (void)events;
    hsb__wake_hush(&in->wake);
    in->rung = true;
}

/* From now on a ring ends the poller's wait.                                          */
static bool hsb__inbox_watch(hsb__inbox *in, hsb__poller *poller, hsb_error *err)
{
    in->watch.fd = in->wake.read_fd;
    in->watch.ready = hsb__inbox_ready;
    in->watch.owner = in;
    if (!hsb__poller_add(poller, &in->watch, HSB__READ))
        return hsb__error_system(err, hsb__os_error(), "watching the wake-up descriptor");
    in->poller = poller;
    return true;
}

/* Nothing more gets in.  What was posted or settled before stays, to be run.          */
static void hsb__inbox_close(hsb__inbox *in)
{
    hsb__mutex_lock(&in->lock);
    in->closed = true;
    hsb__mutex_unlock(&in->lock);
}

/* The server's reference.  The wake-up ends with it, because nobody rings a closed inbox. */
static void hsb__inbox_release(hsb__inbox *in)
{
    if (in->poller)
        hsb__poller_drop(in->poller, &in->watch);
    hsb__mutex_lock(&in->lock);
    hsb__wake_close(&in->wake);
    hsb__inbox_unlock_release(in);
}

/* --- flags ----------------------------------------------------------------------------- */
/* May be called in a signal handler.                                                  */
static void hsb__inbox_flag(hsb__inbox *in, int flags)
{
    hsb__atomic_set_flags(&in->flags, flags);
    hsb__wake_ring(&in->wake);
}

static int hsb__inbox_take_flags(hsb__inbox *in)
{
    return hsb__atomic_take_flags(&in->flags);
}

/* Whether there are some that came after the last take.  Their ring may have been hushed, so
   a wait that begins now must end at once.                                            */
static bool hsb__inbox_has_flags(const hsb__inbox *in)
{
    return hsb__atomic_flags(&in->flags) != 0;
}

/* --- posts ----------------------------------------------------------------------------- */
static void hsb__post_call(void *owner, hsb__resume fn, void *arg)
{
    fn.server(owner, arg);
}

static bool hsb__inbox_post(hsb__inbox *in, int delay_ms, void (*fn)(hsb_server *, void *),
                            void *arg)
{
    hsb__after *post = hsb__memory_zeroed(&in->memory, sizeof *post);
    if (!post)
        return false;
    post->memory = &in->memory;
    post->size = sizeof *post;
    post->call = hsb__post_call;
    post->delay_ms = delay_ms;
    post->fn.server = fn;
    post->arg = arg;
    hsb__mutex_lock(&in->lock);
    bool open = !in->closed;
    if (open) {
        if (!hsb__link_first(&in->posts))   /* else it rang already, and will find this too */
            hsb__wake_ring(&in->wake);
        hsb__link_add(&in->posts, &post->link);
    }
    hsb__mutex_unlock(&in->lock);
    if (!open)
        hsb__memory_free(&in->memory, post, sizeof *post);
    return open;
}

/* Runs the posts that have arrived.  A post with a delay gets a timer instead.          */
static int hsb__inbox_run_posts(hsb__inbox *in, hsb_server *server, hsb__timers *timers)
{
    hsb__link posts, *first;
    int count = 0;
    hsb__mutex_lock(&in->lock);
    hsb__link_move_all(&posts, &in->posts);
    hsb__mutex_unlock(&in->lock);
    for (; (first = hsb__link_first(&posts)) != NULL; count++) {
        hsb__after *post = HSB__OWNER(hsb__after, link, first);
        post->owner = server;
        hsb__link_remove(&post->link);
        if (post->delay_ms > 0)
            hsb__after_start(post, &in->delayed, timers);
        else
            hsb__after_run(post);
    }
    return count;
}

/* --- promises -------------------------------------------------------------------------- */
static bool hsb__inbox_more_promises(hsb__inbox *in)
{
    uint32_t space = in->space ? in->space * 2 : 16;
    if (space > UINT32_MAX / 2)
        return false;
    hsb__promise *more = hsb__memory_grow(&in->memory, in->promises,
                                          in->space * sizeof *more, space * sizeof *more);
    if (!more)
        return false;
    in->promises = more;
    for (uint32_t i = space; i-- > in->space;) {
        more[i].next = in->unused;
        in->unused = i + 1;
    }
    in->space = space;
    return true;
}

/* A new ticket for owner, whose list of promises is *list; 0: out of memory.          */
static uint64_t hsb__inbox_promise(hsb__inbox *in, void *owner, hsb__caller *call,
                                   uint32_t *list)
{
    uint64_t id = 0;
    hsb__mutex_lock(&in->lock);
    if (in->unused || hsb__inbox_more_promises(in)) {
        uint32_t at = in->unused;
        hsb__promise *p = &in->promises[at - 1];
        in->unused = p->next;
        p->state = HSB__PROMISE_OPEN;
        p->generation++;
        p->owner = owner;
        p->call = call;
        p->newest = list;
        p->newer = 0;
        p->older = *list;
        if (p->older)
            in->promises[p->older - 1].newer = at;
        *list = at;
        in->references++;
        id = (uint64_t)p->generation << 32 | at;
    }
    hsb__mutex_unlock(&in->lock);
    return id;
}

static void hsb__inbox_unlink(hsb__inbox *in, hsb__promise *p)
{
    if (!p->newest)
        return;
    if (p->newer)
        in->promises[p->newer - 1].older = p->older;
    else
        *p->newest = p->older;
    if (p->older)
        in->promises[p->older - 1].newer = p->newer;
    p->newest = NULL;
    p->owner = NULL;
}

/* The owner ends: a ticket that is resumed later finds owner NULL.                    */
static void hsb__inbox_orphan(hsb__inbox *in, uint32_t *list)
{
    hsb__mutex_lock(&in->lock);
    while (*list)
        hsb__inbox_unlink(in, &in->promises[*list - 1]);
    hsb__mutex_unlock(&in->lock);
}

/* The open promise of a ticket, or NULL: used already, or of another kind of owner.   */
static hsb__promise *hsb__inbox_find(hsb__inbox *in, uint64_t id, hsb__caller *call)
{
    uint32_t at = (uint32_t)id;
    if (at == 0 || at > in->space)
        return NULL;
    hsb__promise *p = &in->promises[at - 1];
    bool fits = p->state == HSB__PROMISE_OPEN && p->generation == (uint32_t)(id >> 32) &&
                p->call == call;
    return fits ? p : NULL;
}

/* Uses a ticket up.  drop: fn is not called.  False: it was used before, or the server has
   ended; then fn will never be called.                                                */
static bool hsb__inbox_settle(hsb__inbox *in, uint64_t id, hsb__caller *call, hsb__resume fn,
                              bool drop, void *arg)
{
    static const hsb__resume none;
    hsb__mutex_lock(&in->lock);
    hsb__promise *p = hsb__inbox_find(in, id, call);
    if (!p) {
        hsb__mutex_unlock(&in->lock);
        return false;
    }
    if (in->closed) {
        p->state = HSB__PROMISE_FREE;
        hsb__inbox_unlock_release(in);
        return false;
    }
    p->state = drop ? HSB__PROMISE_DROPPED : HSB__PROMISE_RESUMED;
    p->fn = drop ? none : fn;
    p->arg = arg;
    p->next = 0;
    uint32_t at = (uint32_t)id;
    if (in->settled) {
        in->promises[in->settled_last - 1].next = at;
    } else {
        in->settled = at;
        hsb__wake_ring(&in->wake);          /* once for all that the server finds then       */
    }
    in->settled_last = at;
    hsb__mutex_unlock(&in->lock);
    return true;
}

/* The next settled promise, copied out and freed.  Its owner is NULL if it has ended.  */
static bool hsb__inbox_take(hsb__inbox *in, hsb__promise *out)
{
    hsb__mutex_lock(&in->lock);
    uint32_t at = in->settled;
    if (at) {
        hsb__promise *p = &in->promises[at - 1];
        in->settled = p->next;
        *out = *p;
        hsb__inbox_unlink(in, p);
        p->state = HSB__PROMISE_FREE;
        p->next = in->unused;
        in->unused = at;
        in->references--;                   /* never the last: the server holds one     */
    }
    hsb__mutex_unlock(&in->lock);
    return at != 0;
}

static int hsb__inbox_run_promises(hsb__inbox *in)
{
    hsb__promise p;
    int count = 0;
    while (count < HSB__INBOX_PROMISES && hsb__inbox_take(in, &p)) {
        p.call(p.owner, p.fn, p.arg);
        count++;
    }
    if (count == HSB__INBOX_PROMISES)
        hsb__wake_ring(&in->wake);          /* the others after the connections' turn    */
    return count;
}

/* --- for the server -------------------------------------------------------------------- */
/* Runs what has arrived; returns how much.  Everybody who leaves something rings, so
   without a ring there is no need for the lock.  A ring that comes while the loop is
   awake is seen in the next turn.                                                     */
static int hsb__inbox_run(hsb__inbox *in, hsb_server *server, hsb__timers *timers)
{
    if (!in->rung)
        return 0;
    in->rung = false;
    return hsb__inbox_run_posts(in, server, timers) + hsb__inbox_run_promises(in);
}

/* The server ends: all that is left runs now, posts with a delay too.                 */
static void hsb__inbox_run_last(hsb__inbox *in, hsb_server *server, hsb__timers *timers)
{
    hsb__inbox_close(in);
    while (hsb__inbox_run_promises(in) > 0)
        ;
    hsb__inbox_run_posts(in, server, timers);
    for (hsb__link *link; (link = hsb__link_first(&in->delayed)) != NULL;)
        hsb__after_run(HSB__OWNER(hsb__after, link, link));
}

/* ===== >>der =====================================================================
   Purpose  reading and writing DER (X.690)
   Uses     >>text
   Names    hsb__der_*
   Tests    tests/unit/der.c, tests/fuzz/pem.c                                         */

/* --- DER, read ------------------------------------------------------------------------
   An hsb_str is what is left to read.  Each function takes one element off its front, or
   returns false and leaves it alone; so reading a structure is a chain of && that ends
   at the first fault.  Strict: X.690 10.1 wants the shortest form of a length, and no
   type of ours needs a tag of more than one byte.                                     */
enum {
    HSB__DER_BOOLEAN = 0x01, HSB__DER_INTEGER = 0x02, HSB__DER_BITS = 0x03,
    HSB__DER_OCTETS = 0x04, HSB__DER_NULL = 0x05, HSB__DER_OID = 0x06, HSB__DER_UTF8 = 0x0C,
    HSB__DER_NUMERIC = 0x12, HSB__DER_PRINTABLE = 0x13, HSB__DER_TELETEX = 0x14,
    HSB__DER_IA5 = 0x16, HSB__DER_UTC_TIME = 0x17, HSB__DER_TIME = 0x18,
    HSB__DER_VISIBLE = 0x1A, HSB__DER_UNIVERSAL = 0x1C, HSB__DER_BMP = 0x1E,
    HSB__DER_SEQUENCE = 0x30, HSB__DER_SET = 0x31,
    HSB__DER_CONTEXT = 0x80,                /* + n: [n] IMPLICIT of something primitive */
    HSB__DER_EXPLICIT = 0xA0                /* + n: [n] around whole elements          */
};

static unsigned hsb__der_byte(hsb_str s, size_t i)
{
    return (unsigned char)s.ptr[i];
}

/* BearSSL's keys and names are pointers to non-const, through which it only reads.    */
static unsigned char *hsb__der_pointer(hsb_str s)
{
    return (unsigned char *)(uintptr_t)s.ptr;
}

/* Reads tag and length.  Returns their size, or 0 if they are malformed or announce
   more bytes than there are.                                                          */
static size_t hsb__der_header(hsb_str s, size_t *length)
{
    if (s.len < 2)
        return 0;
    size_t n = hsb__der_byte(s, 1), header = 2;
    if (n > 0x80 && n <= 0x83) {            /* one to three bytes of length follow     */
        header += n - 0x80;
        if (s.len < header)
            return 0;
        n = 0;
        for (size_t i = 2; i < header; i++)
            n = n << 8 | hsb__der_byte(s, i);
        if (n < 0x80 || n >> (8 * (header - 3)) == 0)
            return 0;
    } else if (n >= 0x80) {
        return 0;
    }
    *length = n;
    return n <= s.len - header ? header : 0;
}

/* Any element: its tag and what it holds.                                             */
static bool hsb__der_next(hsb_str *rest, unsigned *tag, hsb_str *content)
{
    size_t length = 0, header = hsb__der_header(*rest, &length);
    if (!header || (hsb__der_byte(*rest, 0) & 0x1F) == 0x1F)
        return false;
    *tag = hsb__der_byte(*rest, 0);
    *content = hsb__text_make(rest->ptr + header, length);
    *rest = hsb__text_after(*rest, header + length);
    return true;
}

static bool hsb__der_starts(hsb_str rest, unsigned tag)
{
    return rest.len && hsb__der_byte(rest, 0) == tag;
}

/* An element with that tag: what it holds.                                            */
static bool hsb__der_take(hsb_str *rest, unsigned tag, hsb_str *content)
{
    unsigned got;
    return hsb__der_starts(*rest, tag) && hsb__der_next(rest, &got, content);
}

/* The same, with its header.                                                          */
static bool hsb__der_whole(hsb_str *rest, unsigned tag, hsb_str *element)
{
    hsb_str from = *rest, content;
    if (!hsb__der_take(rest, tag, &content))
        return false;
    *element = hsb__text_make(from.ptr, from.len - rest->len);
    return true;
}

/* true too if there is no such element: then *content is absent.                      */
static bool hsb__der_optional(hsb_str *rest, unsigned tag, hsb_str *content)
{
    *content = hsb__text_absent();
    return !hsb__der_starts(*rest, tag) || hsb__der_take(rest, tag, content);
}

/* An INTEGER above zero: its bytes, without the zero byte that only keeps it positive. */
static bool hsb__der_positive(hsb_str *rest, hsb_str *digits)
{
    hsb_str at = *rest, n;
    if (!hsb__der_take(&at, HSB__DER_INTEGER, &n) || !n.len || hsb__der_byte(n, 0) > 0x7F)
        return false;
    if (hsb__der_byte(n, 0) == 0) {
        n = hsb__text_after(n, 1);
        if (!n.len || hsb__der_byte(n, 0) <= 0x7F)
            return false;                   /* zero itself, or not the shortest form   */
    }
    *digits = n;
    *rest = at;
    return true;
}

/* An INTEGER from 0 to max.                                                           */
static bool hsb__der_small(hsb_str *rest, uint32_t max, uint32_t *value)
{
    hsb_str at = *rest, digits;
    uint32_t n = 0;
    if (!hsb__der_positive(&at, &digits) &&
        !(hsb__der_take(&at, HSB__DER_INTEGER, &digits) && digits.len == 1 && !*digits.ptr))
        return false;                       /* neither above zero nor zero             */
    if (digits.len > sizeof n)
        return false;
    for (size_t i = 0; i < digits.len; i++)
        n = n << 8 | hsb__der_byte(digits, i);
    if (n > max)
        return false;
    *rest = at;
    *value = n;
    return true;
}

/* A BIT STRING whose last byte is whole: its bytes.                                   */
static bool hsb__der_bytes(hsb_str *rest, hsb_str *bytes)
{
    hsb_str at = *rest, bits;
    if (!hsb__der_take(&at, HSB__DER_BITS, &bits) || !bits.len || bits.ptr[0] != 0)
        return false;
    *bytes = hsb__text_after(bits, 1);
    *rest = at;
    return true;
}

/* What an OBJECT IDENTIFIER holds, as text: "2.5.4.3".  False if it is malformed, or has
   a number beyond 64 bits or more text than we would ever show.                       */
enum { HSB__DER_OID_TEXT = 128 };

static bool hsb__der_oid_text(hsb_str oid, char out[HSB__DER_OID_TEXT])
{
    uint64_t n = 0;
    size_t at = 0;
    for (size_t i = 0; i < oid.len; i++) {
        unsigned byte = hsb__der_byte(oid, i);
        if (n > UINT64_MAX >> 7 || (n == 0 && byte == 0x80) || at > HSB__DER_OID_TEXT - 24)
            return false;
        n = n << 7 | (byte & 0x7F);
        if (byte & 0x80)
            continue;
        if (at == 0) {                      /* the first byte holds two numbers        */
            unsigned first = n < 80 ? (unsigned)n / 40 : 2;
            out[at++] = (char)('0' + first);
            n -= first * 40;
        }
        out[at++] = '.';
        at += hsb__text_print(out + at, n);
        n = 0;
    }
    out[at] = '\0';
    return oid.len && !(hsb__der_byte(oid, oid.len - 1) & 0x80);
}

static bool hsb__der_oid_is(hsb_str oid, const char *text)
{
    char got[HSB__DER_OID_TEXT];
    return hsb__der_oid_text(oid, got) && strcmp(got, text) == 0;
}

/* UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 has them: to the second, in UTC.     */
static bool hsb__der_time(hsb_str *rest, int64_t *seconds)
{
    enum { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, COUNT };
    static const int64_t most[COUNT] = { 9999, 12, 31, 23, 59, 59 };
    int64_t n[COUNT];
    hsb_str at = *rest, text;
    bool is_short = hsb__der_starts(at, HSB__DER_UTC_TIME);
    if (!hsb__der_take(&at, is_short ? HSB__DER_UTC_TIME : HSB__DER_TIME, &text) ||
        text.len != (is_short ? 13 : 15))
        return false;
    for (int i = YEAR; i < COUNT; i++) {
        size_t digits = i == YEAR && !is_short ? 4 : 2;
        if (!hsb__text_decimal(hsb__text_make(text.ptr, digits), most[i], &n[i]))
            return false;
        text = hsb__text_after(text, digits);
    }
    if (n[MONTH] < 1 || n[DAY] < 1 || text.ptr[0] != 'Z')
        return false;
    if (is_short)
        n[YEAR] += n[YEAR] < 50 ? 2000 : 1900;
    int64_t first = hsb__date_days(n[YEAR], (int)n[MONTH], 1);
    int64_t next = hsb__date_days(n[YEAR] + n[MONTH] / 12, (int)(n[MONTH] % 12 + 1), 1);
    if (n[DAY] > next - first)
        return false;
    *seconds = (first + n[DAY] - 1) * 86400 + n[HOUR] * 3600 + n[MINUTE] * 60 + n[SECOND];
    *rest = at;
    return true;
}

/* --- DER, written ---------------------------------------------------------------------
   Into a buffer of fixed size.  An element is opened, filled and closed; closing makes
   room for a length that needs more than one byte.  Once something does not fit, full is
   set and nothing more is written, so that full is checked once, at the end.          */
typedef struct hsb__der_out {
    unsigned char *bytes;
    size_t         len, size;
    bool           full;
} hsb__der_out;

static void hsb__der_put(hsb__der_out *out, const void *bytes, size_t len)
{
    if (out->full || len > out->size - out->len) {
        out->full = true;
        return;
    }
    if (len)
        memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void hsb__der_put_byte(hsb__der_out *out, unsigned byte)
{
    unsigned char b = (unsigned char)byte;
    hsb__der_put(out, &b, 1);
}

/* Returns the mark that hsb__der_close wants.                                         */
static size_t hsb__der_open(hsb__der_out *out, unsigned tag)
{
    hsb__der_put_byte(out, tag);
    hsb__der_put_byte(out, 0);
    return out->len;
}

static void hsb__der_close(hsb__der_out *out, size_t mark)
{
    size_t len = out->len - mark, more = len < 0x80 ? 0 : len < 0x100 ? 1 : 2;
    HSB_ASSERT(len < 0x10000);
    for (size_t i = 0; i < more; i++)
        hsb__der_put_byte(out, 0);
    if (out->full)
        return;
    unsigned char *at = out->bytes + mark;
    memmove(at + more, at, len);
    at[-1] = (unsigned char)(more ? 0x80 + more : len);
    for (size_t i = 0; i < more; i++)
        at[i] = (unsigned char)(len >> (8 * (more - 1 - i)));
}

static void hsb__der_put_element(hsb__der_out *out, unsigned tag, const void *bytes,
                                 size_t len)
{
    size_t mark = hsb__der_open(out, tag);
    hsb__der_put(out, bytes, len);
    hsb__der_close(out, mark);
}

/* Up to five groups of seven bits, the highest first; all but the last have the top bit. */
static void hsb__der_put_arc(hsb__der_out *out, uint32_t n)
{
    for (unsigned shift = 28; shift > 0; shift -= 7)
        if (n >> shift)
            hsb__der_put_byte(out, 0x80 | (n >> shift & 0x7F));
    hsb__der_put_byte(out, n & 0x7F);
}

/* An OBJECT IDENTIFIER from its text, which is one of ours: "2.5.4.3"                 */
static void hsb__der_put_oid(hsb__der_out *out, const char *text)
{
    size_t mark = hsb__der_open(out, HSB__DER_OID);
    char *at;
    unsigned long first = strtoul(text, &at, 10);
    unsigned long second = strtoul(at + 1, &at, 10);
    hsb__der_put_arc(out, (uint32_t)(first * 40 + second));
    while (*at == '.')
        hsb__der_put_arc(out, (uint32_t)strtoul(at + 1, &at, 10));
    hsb__der_close(out, mark);
}

/* RFC 5280 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.                  */
static void hsb__der_put_time(hsb__der_out *out, int64_t seconds)
{
    hsb__date d = hsb__date_split(seconds);
    bool is_short = d.year >= 1950 && d.year < 2050;
    char text[96];
    if (d.year < 0 || d.year > 9999) {
        out->full = true;
        return;
    }
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", (int)d.year, d.month, d.day,
             d.hour, d.minute, d.second);
    if (is_short)
        hsb__der_put_element(out, HSB__DER_UTC_TIME, text + 2, 13);
    else
        hsb__der_put_element(out, HSB__DER_TIME, text, 15);
}

/* ===== >>pem =====================================================================
   Purpose  PEM text to DER objects and back
   Uses     >>platform >>memory >>text >>error
   Names    hsb__pem_*, hsb__object
   Tests    tests/unit/pem.c, tests/unit/wipes.c, tests/fuzz/pem.c                     */

/* What is between a BEGIN line and its END line.  One block: the bytes follow.        */
typedef struct hsb__object {
    struct hsb__object *next;
    size_t              size;       /* of the block                                    */
    const char         *name;       /* "CERTIFICATE", "PRIVATE KEY", ...; upper case   */
    unsigned char      *der;
    size_t              len;
} hsb__object;

enum { HSB__PEM_MAX = 4 << 20, HSB__PEM_FIRST_READ = 16 << 10, HSB__PEM_PLACE = 72 };

static const char hsb__pem_old_encryption[] =
    "old kind of encryption; convert it with openssl pkcs8 -topk8";

static bool hsb__pem_is_set(const hsb_pem *pem)
{
    return pem->path || pem->text.ptr;
}

/* The end of a long path, so that an error's text has room for the reason.            */
static const char *hsb__pem_shorten(const char *path, char buf[HSB__PEM_PLACE])
{
    size_t len = strlen(path);
    if (len < HSB__PEM_PLACE)
        return path;
    snprintf(buf, HSB__PEM_PLACE, "...%s", path + len - (HSB__PEM_PLACE - 4));
    return buf;
}

/* How errors name the source.                                                         */
static const char *hsb__pem_place(const hsb_pem *pem, char buf[HSB__PEM_PLACE])
{
    return pem->path ? hsb__pem_shorten(pem->path, buf) : "the text given";
}

static hsb__object *hsb__pem_object(hsb__memory *m, const char *name, const void *der,
                                    size_t len)
{
    size_t name_size = strlen(name) + 1, size = sizeof(hsb__object) + len + name_size;
    hsb__object *o = hsb__memory_alloc(m, size);
    if (!o)
        return NULL;
    o->next = NULL;
    o->size = size;
    o->der = (unsigned char *)(o + 1);
    o->len = len;
    o->name = (const char *)o->der + len;
    if (len)
        memcpy(o->der, der, len);
    memcpy(o->der + len, name, name_size);
    return o;
}

static void hsb__pem_free(hsb__memory *m, hsb__object *list)
{
    for (hsb__object *o = list, *next; o; o = next) {
        next = o->next;
        hsb__memory_free_secret(m, o, o->size);
    }
}

/* Keeps the objects whose names end with suffix ("RSA PRIVATE KEY" is a "PRIVATE
   KEY"), and frees the others.                                                        */
static void hsb__pem_only(hsb__memory *m, hsb__object **list, const char *suffix)
{
    size_t len = strlen(suffix);
    for (hsb__object **link = list; *link;) {
        hsb__object *o = *link;
        size_t name_len = strlen(o->name);
        if (name_len >= len && strcmp(o->name + name_len - len, suffix) == 0) {
            link = &o->next;
        } else {
            *link = o->next;
            o->next = NULL;
            hsb__pem_free(m, o);
        }
    }
}

typedef struct hsb__pem_file { char *bytes; size_t len, size; } hsb__pem_file;

static bool hsb__pem_grow_file(hsb__memory *m, hsb__pem_file *f)
{
    size_t size = f->size ? f->size * 2 : HSB__PEM_FIRST_READ;
    char *bytes = hsb__memory_grow(m, f->bytes, f->size, size);
    if (!bytes)
        return false;
    f->bytes = bytes;
    f->size = size;
    return true;
}

static bool hsb__pem_read_fd(hsb__memory *m, hsb__pem_file *f, int fd, const char *place,
                             hsb_error *err)
{
    for (;;) {
        if (f->len == f->size && !hsb__pem_grow_file(m, f))
            return hsb__error_memory(err);
        ptrdiff_t n = hsb__os_pread(fd, f->bytes + f->len, f->size - f->len, (int64_t)f->len);
        if (n == 0)
            return true;
        if (n < 0)
            return hsb__error_system(err, hsb__os_error(), place);
        f->len += (size_t)n;
        if (f->len > HSB__PEM_MAX)
            return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "%s: larger than 4 MiB", place);
    }
}

/* The whole of a file; the caller frees it, also after an error.                      */
static bool hsb__pem_read_file(hsb__memory *m, hsb__pem_file *f, const char *path,
                               const char *place, hsb_error *err)
{
    int fd = hsb__os_open_file(path);
    if (fd < 0 && hsb__os_error() == HSB__OS_PIPE)
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_PIPE, 0, "%s: a pipe and no file",
                              place);
    if (fd < 0)
        return hsb__error_system(err, hsb__os_error(), place);
    bool ok = hsb__pem_read_fd(m, f, fd, place, err);
    hsb__os_close_file(fd);
    return ok;
}

/* Objects are gathered in bytes, which is as long as the text: base64 only shrinks.   */
typedef struct hsb__pem_reader {
    hsb__memory            *memory;
    br_pem_decoder_context  decoder;
    unsigned char          *bytes;
    size_t                  len, size;
    bool                    inside;         /* between BEGIN and END                   */
    bool                    joining;        /* in it, and before its END line          */
    bool                    line_start;
    char                    name[128];      /* as long as the decoder's                */
    hsb__object           **tail;
    const char             *place;
    hsb_error              *err;
} hsb__pem_reader;

static bool hsb__pem_fail(hsb__pem_reader *r, const char *reason)
{
    return hsb__error_set(r->err, HSB_ERR_PEM, 0, 0, "%s: %s", r->place, reason);
}

static void hsb__pem_gather(void *reader, const void *bytes, size_t len)
{
    hsb__pem_reader *r = reader;
    HSB_ASSERT(len <= r->size - r->len);
    memcpy(r->bytes + r->len, bytes, len);
    r->len += len;
}

/* RFC 1421 4.6.1.1: the old encryption announces itself in a line after BEGIN.        */
static bool hsb__pem_begin(hsb__pem_reader *r, hsb_str rest)
{
    static const char old[] = "Proc-Type:";
    if (rest.len && rest.ptr[0] == '\n')            /* of a CRLF                       */
        rest = hsb__text_after(rest, 1);
    if (rest.len >= sizeof old - 1 && memcmp(rest.ptr, old, sizeof old - 1) == 0)
        return hsb__pem_fail(r, hsb__pem_old_encryption);
    snprintf(r->name, sizeof r->name, "%s", br_pem_decoder_name(&r->decoder));
    for (size_t n = strlen(r->name); n && strchr("- \t", r->name[n - 1]); n--)
        r->name[n - 1] = '\0';
    r->inside = r->joining = true;
    r->len = 0;
    br_pem_decoder_setdest(&r->decoder, hsb__pem_gather, r);
    return true;
}

static bool hsb__pem_end(hsb__pem_reader *r)
{
    hsb__object *o = hsb__pem_object(r->memory, r->name, r->bytes, r->len);
    if (!o)
        return hsb__error_memory(r->err);
    *r->tail = o;
    r->tail = &o->next;
    r->inside = false;
    return true;
}

static bool hsb__pem_event(hsb__pem_reader *r, hsb_str rest)
{
    switch (br_pem_decoder_event(&r->decoder)) {
    case BR_PEM_BEGIN_OBJ:
        return hsb__pem_begin(r, rest);
    case BR_PEM_END_OBJ:
        return hsb__pem_end(r);
    case BR_PEM_ERROR:
        return hsb__pem_fail(r, "malformed PEM");
    default:
        return true;
    }
}

/* Hands some of the text to the decoder, and returns how much.  The decoder wants lines of
   whole base64 quads, and takes a CR for a part of a name.  So CR and LF both end a line, and
   the lines of an object are joined; the first that begins with a hyphen is its END line. */
static size_t hsb__pem_push_some(hsb__pem_reader *r, hsb_str text)
{
    const char first = text.ptr[0];
    size_t n = 0;
    if (first == '\r' || first == '\n') {
        r->line_start = true;
        if (!r->joining)
            br_pem_decoder_push(&r->decoder, "\n", 1);
        return 1;
    }
    if (r->joining && r->line_start && first == '-') {
        r->joining = false;
        br_pem_decoder_push(&r->decoder, "\n", 1);
        return 0;
    }
    r->line_start = false;
    while (n < text.len && text.ptr[n] != '\r' && text.ptr[n] != '\n')
        n++;
    return br_pem_decoder_push(&r->decoder, text.ptr, n);
}

static bool hsb__pem_push(hsb__pem_reader *r, hsb_str text)
{
    while (text.len) {
        text = hsb__text_after(text, hsb__pem_push_some(r, text));
        if (!hsb__pem_event(r, text))
            return false;
    }
    return true;
}

static bool hsb__pem_parse(hsb__pem_reader *r, hsb_str text)
{
    static const char mark[] = "\xEF\xBB\xBF";      /* Windows editors put it first    */
    hsb__object **first = r->tail;
    if (text.len >= 3 && memcmp(text.ptr, mark, 3) == 0)
        text = hsb__text_after(text, 3);
    br_pem_decoder_init(&r->decoder);
    /* The decoder ends a line at its newline only, so it gets one more.               */
    if (!hsb__pem_push(r, text) || !hsb__pem_push(r, hsb__text_of("\n")))
        return false;
    if (r->inside)
        return hsb__pem_fail(r, "cut short: a BEGIN line without its END line");
    return *first ? true : hsb__pem_fail(r, text.len ? "no PEM block in it" : "empty");
}

static bool hsb__pem_load_text(hsb__memory *m, hsb_str text, const char *place,
                               hsb__object **list, hsb_error *err)
{
    hsb__pem_reader r = { 0 };
    r.memory = m;
    r.place = place;
    r.err = err;
    r.tail = list;
    r.size = text.len + 1;
    r.bytes = hsb__memory_alloc(m, r.size);
    bool ok = r.bytes ? hsb__pem_parse(&r, text) : hsb__error_memory(err);
    hsb__memory_free_secret(m, r.bytes, r.size);
    hsb__memory_wipe(&r.decoder, sizeof r.decoder);
    if (!ok) {
        hsb__pem_free(m, *list);
        *list = NULL;
    }
    return ok;
}

/* All objects in the order of the file; at least one, or false.                       */
static bool hsb__pem_load(hsb__memory *m, const hsb_pem *pem, hsb__object **list,
                          hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    const char *place = hsb__pem_place(pem, buf);
    hsb__pem_file file = { NULL, 0, 0 };
    *list = NULL;
    if (!pem->path) {
        if (pem->text.len > HSB__PEM_MAX)
            return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "%s: larger than 4 MiB", place);
        return hsb__pem_load_text(m, pem->text, place, list, err);
    }
    bool ok = hsb__pem_read_file(m, &file, pem->path, place, err) &&
              hsb__pem_load_text(m, hsb__text_make(file.bytes, file.len), place, list, err);
    hsb__memory_free_secret(m, file.bytes, file.size);
    return ok;
}

/* Owned: text_len + 1 bytes.  NULL: memory.                                           */
static char *hsb__pem_encode(hsb__memory *m, const char *name, const unsigned char *der,
                             size_t len, size_t *text_len)
{
    *text_len = br_pem_encode(NULL, NULL, len, name, BR_PEM_LINE64);
    char *text = hsb__memory_alloc(m, *text_len + 1);
    if (text)
        br_pem_encode(text, der, len, name, BR_PEM_LINE64);
    return text;
}

/* ===== >>folder ==================================================================
   Purpose  a folder that keeps keys and certificates over restarts: one process at a time
            uses it, and a crash leaves each file old or new
   Uses     >>platform >>error >>pem
   Names    hsb__folder_*
   Tests    tests/unit/folder.c, tests/fault/folder.c                                 */

typedef struct hsb__folder {
    const char *path;               /* borrowed                                        */
    int         lock;               /* -1: not ours                                    */
    char        place[HSB__PEM_PLACE];      /* how errors name it                      */
} hsb__folder;

/* PATH/NAME.  False: too long.                                                        */
static bool hsb__folder_file(const hsb__folder *f, const char *name, char out[HSB__PATH_MAX],
                             hsb_error *err)
{
    int n = snprintf(out, HSB__PATH_MAX, "%s/%s", f->path, name);
    return (n > 0 && n < HSB__PATH_MAX) ||
           hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "%s: the path is too long", f->place);
}

static void hsb__folder_close(hsb__folder *f)
{
    if (f->lock >= 0)
        hsb__os_close_file(f->lock);
    f->lock = -1;
}

static bool hsb__folder_fail(const hsb__folder *f, hsb_error *err)
{
    return hsb__error_system(err, hsb__os_error(), f->place);
}

/* Makes it if need be, and locks it until hsb__folder_close.  wait false: an error if
   another process, or another part of this one, has the lock.  Borrows path until then. */
static bool hsb__folder_open(hsb__folder *f, const char *path, bool wait, hsb_error *err)
{
    char lock[HSB__PATH_MAX], buf[HSB__PEM_PLACE];
    f->path = path;
    f->lock = -1;
    snprintf(f->place, sizeof f->place, "%s", hsb__pem_shorten(path, buf));
    if (!hsb__folder_file(f, "lock", lock, err))
        return false;
    if (!hsb__os_make_folder(path))
        return hsb__folder_fail(f, err);
    if (!hsb__os_folder_is_ours(path))
        return hsb__error_set(err, HSB_ERR_SYSTEM, 0, 0, "%s: no folder of this user's into "
                              "which nobody else may write", f->place);
    f->lock = hsb__os_lock_file(lock, wait);
    if (f->lock >= 0)
        return true;
    if (!wait && hsb__os_would_block())
        return hsb__error_set(err, HSB_ERR_SHARED, 0, 0, "%s: another process uses this folder",
                              f->place);
    return hsb__folder_fail(f, err);
}

static bool hsb__folder_put(int fd, hsb_str text)
{
    for (size_t done = 0; done < text.len;) {
        ptrdiff_t n = hsb__os_write_file(fd, text.ptr + done, text.len - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return hsb__os_sync_file(fd);
}

/* The file NAME has this text from now on, or is as it was.                           */
static bool hsb__folder_write(const hsb__folder *f, const char *name, hsb_str text,
                              hsb_error *err)
{
    char fresh[HSB__PATH_MAX], path[HSB__PATH_MAX], what[HSB__PATH_MAX];
    if (!hsb__folder_file(f, name, path, err) || !hsb__folder_file(f, "new", fresh, err))
        return false;
    int fd = hsb__os_create_file(fresh);
    bool ok = fd >= 0 && hsb__folder_put(fd, text);
    int code = ok ? 0 : hsb__os_error();
    if (fd >= 0)
        hsb__os_close_file(fd);
    if (ok && !(hsb__os_rename(fresh, path) && hsb__os_sync_folder(f->path)))
        code = hsb__os_error();
    if (!code)
        return true;
    hsb__os_remove(fresh);
    snprintf(what, sizeof what, "%s/%s", f->place, name);
    return hsb__error_system(err, code, what);
}

/* Whether there is a file of that name that can be opened; or an error that is not its
   absence, which counts as there.                                                     */
static bool hsb__folder_has(const hsb__folder *f, const char *name)
{
    char path[HSB__PATH_MAX];
    int fd = hsb__folder_file(f, name, path, NULL) ? hsb__os_open_file(path) : -1;
    if (fd < 0)
        return hsb__os_error() != HSB__OS_NO_FILE;
    hsb__os_close_file(fd);
    return true;
}

/* The name of the file of a host name or address: no letter in it has a meaning to the
   system.  suffix: ".pem".                                                             */
static void hsb__folder_name(char *out, size_t size, const char *host, const char *suffix)
{
    int len = snprintf(out, size, "%s%s", host, suffix);
    for (int i = 0; i < len && out[i]; i++)
        if (out[i] == '*' || out[i] == ':' || out[i] == '/' || out[i] == '%')
            out[i] = '_';
}

/* ===== >>key =====================================================================
   Purpose  private keys: read, decrypt, generate, write; RSASSA-PSS
   Uses     >>platform >>memory >>text >>error >>der >>pem
   Names    hsb__key_*, hsb__pss_*, hsb__hash_len
   Tests    tests/unit/key.c, tests/unit/secrets.c, tests/unit/wipes.c, tests/fuzz/key.c */

/* The numbers of a key stay where its DER has them: the only copy of a secret is the
   object that hsb__key_free wipes.                                                    */
typedef struct hsb__key {
    int                type;        /* BR_KEYTYPE_RSA, BR_KEYTYPE_EC; 0: none          */
    br_rsa_private_key rsa;         /* both point into storage                         */
    br_ec_private_key  ec;
    unsigned char     *storage;     /* an hsb__object, or the generated number         */
    size_t             size;
} hsb__key;

enum { HSB__KEY_RSA_MIN = 2048, HSB__KEY_RSA_MAX = 4096, HSB__KEY_ROUNDS_MAX = 10000000 };

/* The functions that read return NULL, or the reason why they refuse.                 */
static const char hsb__key_malformed[] = "malformed private key";
static const char hsb__key_unknown[] = "kind of key not supported: only RSA and EC are";
static const char hsb__key_unnamed_curve[] =
    "EC parameters spelled out are not supported: only named curves are";
static const char hsb__key_wrong_password[] = "wrong password";

/* --- kinds ------------------------------------------------------------------------- */

static const char *hsb__key_curve(hsb_str oid, int *curve)
{
    *curve = hsb__der_oid_is(oid, "1.2.840.10045.3.1.7") ? BR_EC_secp256r1
           : hsb__der_oid_is(oid, "1.3.132.0.34")        ? BR_EC_secp384r1
           : hsb__der_oid_is(oid, "1.3.132.0.35")        ? BR_EC_secp521r1 : 0;
    return *curve ? NULL : "curve not supported: only P-256, P-384 and P-521 are";
}

/* How many bytes a private number on the curve has.                                   */
static size_t hsb__key_curve_len(int curve)
{
    return curve == BR_EC_secp256r1 ? 32 : curve == BR_EC_secp384r1 ? 48 : 66;
}

/* Key types that exist but are not supported.                                         */
static const char *hsb__key_unsupported(hsb_str oid)
{
    static const struct { const char *oid, *reason; } kinds[] = {
        { "1.3.101.112",           "Ed25519 keys are not supported" },
        { "1.3.101.113",           "Ed448 keys are not supported" },
        { "1.2.840.10040.4.1",     "DSA keys are not supported" },
        { "1.2.840.113549.1.1.10", "RSA keys bound to PSS are not supported" },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (hsb__der_oid_is(oid, kinds[i].oid))
            return kinds[i].reason;
    return hsb__key_unknown;
}

/* AlgorithmIdentifier: its OID, and its parameters.                                   */
static bool hsb__key_scheme(hsb_str *rest, hsb_str *oid, hsb_str *parameters)
{
    hsb_str at = *rest;
    if (!hsb__der_take(&at, HSB__DER_SEQUENCE, parameters) ||
        !hsb__der_take(parameters, HSB__DER_OID, oid))
        return false;
    *rest = at;
    return true;
}

/* AlgorithmIdentifier of a public or private key (RFC 3279 2.3.1, RFC 5480 2.1.1).  The
   curve is 0 for RSA, and where a private key tells it elsewhere.                     */
static const char *hsb__key_algorithm(hsb_str *rest, int *type, int *curve)
{
    hsb_str algorithm, oid, name;
    *type = *curve = 0;
    if (!hsb__key_scheme(rest, &oid, &algorithm))
        return hsb__key_malformed;
    if (hsb__der_oid_is(oid, "1.2.840.113549.1.1.1")) {
        *type = BR_KEYTYPE_RSA;
        return NULL;
    }
    if (!hsb__der_oid_is(oid, "1.2.840.10045.2.1"))
        return hsb__key_unsupported(oid);
    *type = BR_KEYTYPE_EC;
    if (hsb__der_starts(algorithm, HSB__DER_SEQUENCE))
        return hsb__key_unnamed_curve;
    if (!hsb__der_optional(&algorithm, HSB__DER_OID, &name) || algorithm.len)
        return hsb__key_malformed;
    return name.ptr ? hsb__key_curve(name, curve) : NULL;
}

static unsigned hsb__key_bits(hsb_str number)
{
    unsigned bits = (unsigned)number.len * 8;
    for (unsigned top = hsb__der_byte(number, 0); top < 0x80; top <<= 1)
        bits--;
    return bits;
}

static const char *hsb__key_rsa_size(hsb_str modulus)
{
    if (modulus.len > HSB__KEY_RSA_MAX / 8)
        return "RSA key too large: 2048 to 4096 bits are supported";
    if (hsb__key_bits(modulus) < HSB__KEY_RSA_MIN)
        return "RSA key too small: 2048 to 4096 bits are supported";
    return NULL;
}

/* --- reading ----------------------------------------------------------------------- */

static void hsb__key_set_number(unsigned char **at, size_t *len, hsb_str number)
{
    *at = hsb__der_pointer(number);
    *len = number.len;
}

/* RSAPrivateKey (RFC 8017 A.1.2) of two primes.                                       */
static const char *hsb__key_read_rsa(hsb_str der, hsb__key *k)
{
    enum { N, E, D, P, Q, DP, DQ, IQ, COUNT };
    hsb_str body, n[COUNT];
    uint32_t version;
    if (!hsb__der_take(&der, HSB__DER_SEQUENCE, &body) || der.len ||
        !hsb__der_small(&body, 0, &version))
        return hsb__key_malformed;
    for (int i = 0; i < COUNT; i++)
        if (!hsb__der_positive(&body, &n[i]))
            return hsb__key_malformed;
    const char *reason = body.len ? hsb__key_malformed : hsb__key_rsa_size(n[N]);
    if (reason)
        return reason;
    for (int i = P; i < COUNT; i++)         /* BearSSL's buffers are sized for halves  */
        if (n[i].len > (n[N].len + 1) / 2)
            return "RSA key with factors of unequal size is not supported";
    k->type = BR_KEYTYPE_RSA;
    k->rsa.n_bitlen = hsb__key_bits(n[N]);
    hsb__key_set_number(&k->rsa.p, &k->rsa.plen, n[P]);
    hsb__key_set_number(&k->rsa.q, &k->rsa.qlen, n[Q]);
    hsb__key_set_number(&k->rsa.dp, &k->rsa.dplen, n[DP]);
    hsb__key_set_number(&k->rsa.dq, &k->rsa.dqlen, n[DQ]);
    hsb__key_set_number(&k->rsa.iq, &k->rsa.iqlen, n[IQ]);
    return NULL;
}

/* The curve inside an ECPrivateKey.  outer: the curve that PKCS#8 around it names, or
   0.                                                                                  */
static const char *hsb__key_read_curve(hsb_str parameters, int outer, int *curve)
{
    hsb_str oid;
    *curve = outer;
    if (!parameters.ptr)
        return outer ? NULL : "EC key that does not tell its curve";
    if (hsb__der_starts(parameters, HSB__DER_SEQUENCE))
        return hsb__key_unnamed_curve;
    if (!hsb__der_take(&parameters, HSB__DER_OID, &oid) || parameters.len)
        return hsb__key_malformed;
    const char *reason = hsb__key_curve(oid, curve);
    return !reason && outer && *curve != outer ? hsb__key_malformed : reason;
}

/* ECPrivateKey (RFC 5915 3)                                                           */
static const char *hsb__key_read_ec(hsb_str der, int outer, hsb__key *k)
{
    hsb_str body, x, parameters, point;
    uint32_t version;
    if (!hsb__der_take(&der, HSB__DER_SEQUENCE, &body) || der.len ||
        !hsb__der_small(&body, 1, &version) || version != 1 ||
        !hsb__der_take(&body, HSB__DER_OCTETS, &x) ||
        !hsb__der_optional(&body, HSB__DER_EXPLICIT + 0, &parameters) ||
        !hsb__der_optional(&body, HSB__DER_EXPLICIT + 1, &point) || body.len)
        return hsb__key_malformed;
    const char *reason = hsb__key_read_curve(parameters, outer, &k->ec.curve);
    if (reason)
        return reason;
    if (x.len == 0 || x.len > hsb__key_curve_len(k->ec.curve))
        return hsb__key_malformed;
    k->type = BR_KEYTYPE_EC;
    hsb__key_set_number(&k->ec.x, &k->ec.xlen, x);
    return NULL;
}

/* PrivateKeyInfo or OneAsymmetricKey (RFC 5958 2).  Attributes and a public key may
   follow; they are ignored.                                                           */
static const char *hsb__key_read_pkcs8(hsb_str der, hsb__key *k)
{
    hsb_str body, inner;
    uint32_t version;
    int type, curve;
    if (!hsb__der_take(&der, HSB__DER_SEQUENCE, &body) || der.len ||
        !hsb__der_small(&body, 1, &version))
        return hsb__key_malformed;
    const char *reason = hsb__key_algorithm(&body, &type, &curve);
    if (reason)
        return reason;
    if (!hsb__der_take(&body, HSB__DER_OCTETS, &inner))
        return hsb__key_malformed;
    return type == BR_KEYTYPE_RSA ? hsb__key_read_rsa(inner, k)
                                  : hsb__key_read_ec(inner, curve, k);
}

/* --- encrypted PKCS#8: PBES2 of RFC 8018 ------------------------------------------- */

typedef struct hsb__key_lock {
    hsb_str              salt, iv, data;
    const br_hash_class *hash;
    uint32_t             rounds;
    size_t               key_len;       /* of AES                                      */
} hsb__key_lock;

static const br_hash_class *hsb__key_prf(hsb_str oid)
{
    return hsb__der_oid_is(oid, "1.2.840.113549.2.7")  ? &br_sha1_vtable
         : hsb__der_oid_is(oid, "1.2.840.113549.2.9")  ? &br_sha256_vtable
         : hsb__der_oid_is(oid, "1.2.840.113549.2.10") ? &br_sha384_vtable
         : hsb__der_oid_is(oid, "1.2.840.113549.2.11") ? &br_sha512_vtable : NULL;
}

static size_t hsb__key_aes_len(hsb_str oid)
{
    return hsb__der_oid_is(oid, "2.16.840.1.101.3.4.1.2")  ? 16
         : hsb__der_oid_is(oid, "2.16.840.1.101.3.4.1.22") ? 24
         : hsb__der_oid_is(oid, "2.16.840.1.101.3.4.1.42") ? 32 : 0;
}

/* PBKDF2-params.  If no function is named, HMAC with SHA-1 is meant.                  */
static const char *hsb__key_read_kdf(hsb_str parameters, hsb__key_lock *lock)
{
    hsb_str body, oid, null;
    uint32_t key_len;
    if (!hsb__der_take(&parameters, HSB__DER_SEQUENCE, &body) || parameters.len ||
        !hsb__der_take(&body, HSB__DER_OCTETS, &lock->salt))
        return hsb__key_malformed;
    if (!hsb__der_small(&body, UINT32_MAX, &lock->rounds) || lock->rounds == 0)
        return hsb__key_malformed;
    if (lock->rounds > HSB__KEY_ROUNDS_MAX)
        return "its encryption asks for more than 10 million rounds";
    if (hsb__der_starts(body, HSB__DER_INTEGER) &&
        (!hsb__der_small(&body, 32, &key_len) || key_len != lock->key_len))
        return hsb__key_malformed;
    lock->hash = &br_sha1_vtable;
    if (!body.len)
        return NULL;
    if (!hsb__key_scheme(&body, &oid, &null) || body.len)
        return hsb__key_malformed;
    lock->hash = hsb__key_prf(oid);
    return lock->hash ? NULL : "its encryption uses a hash that is not supported";
}

/* PBES2-params                                                                        */
static const char *hsb__key_read_pbes2(hsb_str parameters, hsb__key_lock *lock)
{
    hsb_str body, kdf, kdf_parameters, cipher, cipher_parameters;
    if (!hsb__der_take(&parameters, HSB__DER_SEQUENCE, &body) || parameters.len ||
        !hsb__key_scheme(&body, &kdf, &kdf_parameters) ||
        !hsb__key_scheme(&body, &cipher, &cipher_parameters) || body.len)
        return hsb__key_malformed;
    if (!hsb__der_oid_is(kdf, "1.2.840.113549.1.5.12"))
        return "its encryption is not supported: only PBKDF2 is, not scrypt";
    lock->key_len = hsb__key_aes_len(cipher);
    if (!lock->key_len)
        return "its encryption is not supported: only AES-CBC is";
    if (!hsb__der_take(&cipher_parameters, HSB__DER_OCTETS, &lock->iv) ||
        cipher_parameters.len || lock->iv.len != 16)
        return hsb__key_malformed;
    return hsb__key_read_kdf(kdf_parameters, lock);
}

/* EncryptedPrivateKeyInfo (RFC 5958 3)                                                */
static const char *hsb__key_read_lock(hsb_str der, hsb__key_lock *lock)
{
    hsb_str body, scheme, parameters;
    if (!hsb__der_take(&der, HSB__DER_SEQUENCE, &body) || der.len ||
        !hsb__key_scheme(&body, &scheme, &parameters) ||
        !hsb__der_take(&body, HSB__DER_OCTETS, &lock->data) || body.len ||
        lock->data.len == 0 || lock->data.len % 16 != 0)
        return hsb__key_malformed;
    if (!hsb__der_oid_is(scheme, "1.2.840.113549.1.5.13"))
        return hsb__pem_old_encryption;
    return hsb__key_read_pbes2(parameters, lock);
}

/* One block of PBKDF2 (RFC 8018 5.2): the xor of rounds HMACs, each over the one before.
   Returns the size of a block, of which no more than len bytes go to out.             */
static size_t hsb__key_pbkdf2_block(const br_hmac_key_context *password,
                                    const hsb__key_lock *lock, unsigned index,
                                    unsigned char *out, size_t len)
{
    const unsigned char number[4] = { 0, 0, 0, (unsigned char)index };
    unsigned char u[64], sum[64];
    br_hmac_context hmac;
    br_hmac_init(&hmac, password, 0);
    br_hmac_update(&hmac, lock->salt.ptr, lock->salt.len);
    br_hmac_update(&hmac, number, sizeof number);
    size_t size = br_hmac_out(&hmac, u);
    memcpy(sum, u, size);
    for (uint32_t round = 1; round < lock->rounds; round++) {
        br_hmac_init(&hmac, password, 0);
        br_hmac_update(&hmac, u, size);
        br_hmac_out(&hmac, u);
        for (size_t i = 0; i < size; i++)
            sum[i] ^= u[i];
    }
    memcpy(out, sum, len < size ? len : size);
    hsb__memory_wipe(&hmac, sizeof hmac);
    hsb__memory_wipe(u, sizeof u);
    hsb__memory_wipe(sum, sizeof sum);
    return size;
}

static void hsb__key_pbkdf2(const char *password, const hsb__key_lock *lock,
                            unsigned char key[32])
{
    br_hmac_key_context hmac_key;
    size_t done = 0, len = lock->key_len;
    br_hmac_key_init(&hmac_key, lock->hash, password, strlen(password));
    for (unsigned index = 1; done < len; index++)
        done += hsb__key_pbkdf2_block(&hmac_key, lock, index, key + done, len - done);
    hsb__memory_wipe(&hmac_key, sizeof hmac_key);
}

/* RFC 5652 6.3: as many bytes as it takes to fill the block, each saying how many.    */
static bool hsb__key_unpad(hsb_str *data)
{
    size_t pad = hsb__der_byte(*data, data->len - 1);
    if (pad < 1 || pad > 16)
        return false;
    for (size_t i = data->len - pad; i < data->len; i++)
        if (hsb__der_byte(*data, i) != pad)
            return false;
    data->len -= pad;
    return true;
}

/* Decrypts in place.                                                                  */
static bool hsb__key_unlock(hsb__key_lock *lock, const char *password)
{
    unsigned char key[32], iv[16];
    br_aes_ct_cbcdec_keys aes;
    hsb__key_pbkdf2(password, lock, key);
    memcpy(iv, lock->iv.ptr, sizeof iv);
    br_aes_ct_cbcdec_init(&aes, key, lock->key_len);
    br_aes_ct_cbcdec_run(&aes, iv, hsb__der_pointer(lock->data), lock->data.len);
    hsb__memory_wipe(key, sizeof key);
    hsb__memory_wipe(&aes, sizeof aes);
    return hsb__key_unpad(&lock->data);
}

static const char *hsb__key_read_encrypted(hsb_str der, const char *password, hsb__key *k)
{
    hsb__key_lock lock = { 0 };
    const char *reason = hsb__key_read_lock(der, &lock);
    if (reason)
        return reason;
    if (!password)
        return "encrypted, and no password was given";
    if (!hsb__key_unlock(&lock, password))
        return hsb__key_wrong_password;
    /* One wrong password in 256 leaves what looks like padding, but hardly a key.     */
    reason = hsb__key_read_pkcs8(lock.data, k);
    return reason == hsb__key_malformed ? hsb__key_wrong_password : reason;
}

/* --- RSASSA-PSS (RFC 8017 8.1, 9.1) ------------------------------------------------------
   What BearSSL 0.6 does not have: an encoding around its raw RSA operation.  MGF1 and the
   message have the same hash, and the salt is as long as the hash (RFC 8446 4.2.3).       */

/* How many bytes the hash is long.                                                       */
static size_t hsb__hash_len(const br_hash_class *hash)
{
    return hash->desc >> BR_HASHDESC_OUT_OFF & BR_HASHDESC_OUT_MASK;
}

/* RFC 8017 B.2.1: xors MGF1(seed) over mask.                                              */
static void hsb__pss_mask(const br_hash_class *hash, const unsigned char *seed,
                          unsigned char *mask, size_t len)
{
    const size_t hash_len = hsb__hash_len(hash);
    br_hash_compat_context h;
    unsigned char block[64], number[4] = { 0, 0, 0, 0 };    /* 512 bytes need 16 blocks     */
    for (size_t at = 0; at < len; number[3]++) {
        hash->init(&h.vtable);
        hash->update(&h.vtable, seed, hash_len);
        hash->update(&h.vtable, number, sizeof number);
        hash->out(&h.vtable, block);
        for (size_t i = 0; i < hash_len && at < len; i++)
            mask[at++] ^= block[i];
    }
}

/* H of RFC 8017 9.1.1: the hash of eight zeros, the digest and the salt.                  */
static void hsb__pss_hash(const br_hash_class *hash, const unsigned char *digest,
                          const unsigned char *salt, unsigned char *out)
{
    static const unsigned char zeros[8];
    br_hash_compat_context h;
    hash->init(&h.vtable);
    hash->update(&h.vtable, zeros, sizeof zeros);
    hash->update(&h.vtable, digest, hsb__hash_len(hash));
    hash->update(&h.vtable, salt, hsb__hash_len(hash));
    hash->out(&h.vtable, out);
}

/* How a modulus of that many bits holds the encoding, which has one bit less: bytes before
   it, its length, and the bits of its first byte that must be 0.                          */
typedef struct hsb__pss_shape { size_t before, len; unsigned char top; } hsb__pss_shape;

static hsb__pss_shape hsb__pss_shape_of(unsigned modulus_bits)
{
    hsb__pss_shape s;
    const unsigned bits = modulus_bits - 1;
    s.len = (bits + 7) / 8;
    s.before = (modulus_bits + 7) / 8 - s.len;              /* 1 if bits is a multiple of 8 */
    s.top = (unsigned char)(bits % 8 ? 0xFFu << (bits % 8) & 0xFF : 0);
    return s;
}

/* The signature of a digest: as many bytes as the modulus has.  salt is random, and one hash
   long.  0: the key is too short or the operation failed.                                 */
static size_t hsb__pss_sign(br_rsa_private rsa, const br_rsa_private_key *key,
                            const br_hash_class *hash, const unsigned char *digest,
                            const unsigned char *salt, unsigned char *out)
{
    const hsb__pss_shape shape = hsb__pss_shape_of(key->n_bitlen);
    const size_t hash_len = hsb__hash_len(hash);
    if (shape.len < 2 * hash_len + 2)
        return 0;
    const size_t masked = shape.len - hash_len - 1;
    unsigned char *em = out + shape.before, *h = em + masked;
    memset(out, 0, shape.before + masked);
    em[masked - hash_len - 1] = 1;
    memcpy(em + masked - hash_len, salt, hash_len);
    hsb__pss_hash(hash, digest, salt, h);
    hsb__pss_mask(hash, h, em, masked);
    em[0] &= (unsigned char)~shape.top;
    h[hash_len] = 0xBC;
    return HSB__PUBLIC(rsa(out, key)) ? shape.before + shape.len : 0;
}

/* RFC 8017 9.1.2, for a salt of one hash.  em is what the public operation gave, and is
   overwritten.                                                                            */
static bool hsb__pss_fits(const br_hash_class *hash, const unsigned char *digest,
                          unsigned char *em, hsb__pss_shape shape)
{
    const size_t hash_len = hsb__hash_len(hash), masked = shape.len - hash_len - 1;
    unsigned char *h = em + masked, wanted[64];
    unsigned wrong = h[hash_len] ^ 0xBCu;
    wrong |= em[0] & shape.top;
    hsb__pss_mask(hash, h, em, masked);
    em[0] &= (unsigned char)~shape.top;
    for (size_t i = 0; i + hash_len + 1 < masked; i++)
        wrong |= em[i];
    wrong |= em[masked - hash_len - 1] ^ 1u;
    hsb__pss_hash(hash, digest, em + masked - hash_len, wanted);
    return hsb__memory_same(wanted, h, hash_len) && wrong == 0;
}

/* The modulus has at most HSB__KEY_RSA_MAX bits and no leading zeros.                     */
static bool hsb__pss_verify(br_rsa_public rsa, const br_rsa_public_key *key,
                            const br_hash_class *hash, const unsigned char *digest,
                            const unsigned char *signature, size_t len)
{
    unsigned char em[HSB__KEY_RSA_MAX / 8];
    if (len != key->nlen || len > sizeof em || len == 0)
        return false;
    const hsb__pss_shape shape =
        hsb__pss_shape_of(hsb__key_bits(hsb__text_make((const char *)key->n, key->nlen)));
    if (shape.len < 2 * hsb__hash_len(hash) + 2)
        return false;
    memcpy(em, signature, len);
    if (!rsa(em, len, key) || (shape.before && em[0]))
        return false;
    return hsb__pss_fits(hash, digest, em + shape.before, shape);
}

/* --- the key ----------------------------------------------------------------------- */

static void hsb__key_free(hsb__memory *m, hsb__key *k)
{
    hsb__memory_free_secret(m, k->storage, k->size);
    memset(k, 0, sizeof *k);
}

/* The label of the block says which kind of key it is.                                */
static const char *hsb__key_read(const hsb__object *o, const char *password, hsb__key *k)
{
    hsb_str der = hsb__text_make((const char *)o->der, o->len);
    if (strcmp(o->name, "PRIVATE KEY") == 0)
        return hsb__key_read_pkcs8(der, k);
    if (strcmp(o->name, "ENCRYPTED PRIVATE KEY") == 0)
        return hsb__key_read_encrypted(der, password, k);
    if (strcmp(o->name, "RSA PRIVATE KEY") == 0)
        return hsb__key_read_rsa(der, k);
    if (strcmp(o->name, "EC PRIVATE KEY") == 0)
        return hsb__key_read_ec(der, 0, k);
    if (strcmp(o->name, "OPENSSH PRIVATE KEY") == 0)
        return "OpenSSH's own kind of key; convert it with ssh-keygen -p -m PEM";
    return hsb__key_unknown;
}

/* The first private key of the file.  Other objects in the file are ignored.          */
static bool hsb__key_load(hsb__memory *m, hsb__key *k, const hsb_pem *pem,
                          const char *password, hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    hsb__object *list;
    memset(k, 0, sizeof *k);
    if (!hsb__pem_load(m, pem, &list, err))
        return false;
    hsb__pem_only(m, &list, "PRIVATE KEY");
    hsb_status status = list ? HSB_ERR_KEY : HSB_ERR_PEM;
    const char *reason = list ? hsb__key_read(list, password, k) : "no private key in it";
    if (reason) {
        hsb__pem_free(m, list);
        memset(k, 0, sizeof *k);
        return hsb__error_set(err, status, 0, 0, "%s: %s", hsb__pem_place(pem, buf), reason);
    }
    hsb__pem_free(m, list->next);
    k->storage = (unsigned char *)list;
    k->size = list->size;
    return true;
}

/* A new key on P-256.                                                                 */
static bool hsb__key_generate(hsb__memory *m, hsb__key *k, hsb_error *err)
{
    unsigned char seed[48];
    br_hmac_drbg_context random;
    memset(k, 0, sizeof *k);
    if (!hsb__os_entropy(seed, sizeof seed))
        return hsb__error_system(err, hsb__os_error(), "random bytes for a key");
    k->size = BR_EC_KBUF_PRIV_MAX_SIZE;
    k->storage = hsb__memory_alloc(m, k->size);
    if (k->storage) {
        br_hmac_drbg_init(&random, &br_sha256_vtable, seed, sizeof seed);
        br_ec_keygen(&random.vtable, br_ec_get_default(), &k->ec, k->storage, BR_EC_secp256r1);
        k->type = BR_KEYTYPE_EC;
        hsb__memory_wipe(&random, sizeof random);
    }
    hsb__memory_wipe(seed, sizeof seed);
    return k->storage ? true : hsb__error_memory(err);
}

/* A key on P-256 as the text of a file.  Owned: text_len + 1 secret bytes.  NULL: memory. */
static char *hsb__key_encode(hsb__memory *m, const hsb__key *k, size_t *text_len)
{
    unsigned char der[256], point[BR_EC_KBUF_PUB_MAX_SIZE];
    br_ec_public_key pub;
    HSB_ASSERT(k->type == BR_KEYTYPE_EC && k->ec.curve == BR_EC_secp256r1);
    br_ec_compute_pub(br_ec_get_default(), &pub, point, &k->ec);
    size_t len = br_encode_ec_pkcs8_der(der, &k->ec, &pub);
    char *text = hsb__pem_encode(m, "PRIVATE KEY", der, len, text_len);
    hsb__memory_wipe(der, sizeof der);
    return text;
}

/* ===== >>x509 ====================================================================
   Purpose  what a certificate says: the bounded walk over its DER, its names and its
            subject as text
   Uses     >>memory >>text >>address >>der >>key
   Names    hsb__x509_*
   Tests    tests/unit/x509.c, tests/fuzz/cert.c                                       */

/* --- the walk -------------------------------------------------------------------------
   Over bytes that a stranger may have sent.  Everything found points into them.  The walk
   refuses what is malformed; whether the rest is good enough is for >>verify to say.      */

/* Who signed: the issuer's name, and what authorityKeyIdentifier (RFC 5280 4.2.1.1) adds.
   Each of the last three may be absent.                                               */
typedef struct hsb__x509_signer {
    hsb_str name;                   /* the DER of the Name, header included            */
    hsb_str key_id;
    hsb_str cert_issuer;            /* what GeneralNames holds                         */
    hsb_str cert_serial;
} hsb__x509_signer;

/* What certificates and revocation lists have in common: a signature over bytes.      */
typedef struct hsb__x509_signed {
    hsb_str tbs;                    /* what is signed, header included                 */
    hsb_str inner, outer;           /* AlgorithmIdentifier within tbs, and after it    */
    hsb_str signature;
} hsb__x509_signed;

/* Extensions that we know.  hsb__x509.has is a set of them.                           */
enum {
    HSB__X509_KEY_ID = 1, HSB__X509_KEY_USAGE = 2, HSB__X509_SAN = 4,
    HSB__X509_CONSTRAINTS = 8, HSB__X509_NAME_CONSTRAINTS = 16, HSB__X509_POLICIES = 32,
    HSB__X509_SIGNER = 64, HSB__X509_EXTENDED_USAGE = 128, HSB__X509_NETSCAPE = 256
};

/* RFC 5280 4.2.1.3: bits of hsb__x509.usage                                           */
enum { HSB__X509_SIGNS = 0x80, HSB__X509_SIGNS_CERTS = 0x04, HSB__X509_SIGNS_LISTS = 0x02 };

typedef struct hsb__x509 {
    hsb__x509_signed signed_part;
    hsb__x509_signer issuer;
    hsb_str  serial;                /* what the INTEGER holds                          */
    hsb_str  subject;               /* the DER of the Name, header included            */
    hsb_str  whole_key;             /* SubjectPublicKeyInfo, header included           */
    hsb_str  key;                   /* what it holds                                   */
    hsb_str  key_id;                /* subjectKeyIdentifier                            */
    hsb_str  san;                   /* what GeneralNames holds; absent: no such extension */
    int64_t  not_before, not_after; /* seconds since 1970                              */
    unsigned version;               /* 1, 2 or 3                                       */
    unsigned has;                   /* HSB__X509_*: extensions                         */
    unsigned usage;                 /* the first eight bits of keyUsage                */
    unsigned netscape;              /* of Netscape's certificate type, which is older than
                                       extended usage and still written: 0x80 is a client */
    uint32_t path_len;              /* UINT32_MAX: no limit                            */
    bool     is_ca;                 /* basicConstraints                                */
    bool     for_clients;           /* extended key usage allows it, or is not there   */
    bool     critical_unknown;      /* a critical extension that we do not know        */
} hsb__x509;

/* GeneralNames (RFC 5280 4.2.1.6): every element must be whole, so that those who read
   them later cannot stop halfway.                                                     */
static bool hsb__x509_walk_san(hsb__x509 *out, hsb_str value)
{
    hsb_str names, rest, name;
    unsigned tag;
    if (!hsb__der_take(&value, HSB__DER_SEQUENCE, &names) || value.len)
        return false;
    rest = names;
    while (rest.len)
        if (!hsb__der_next(&rest, &tag, &name))
            return false;
    out->san = names;
    return true;
}

/* Only a CA has a path length (RFC 5280 4.2.1.9).                                     */
static bool hsb__x509_walk_constraints(hsb__x509 *out, hsb_str value)
{
    hsb_str body, flag;
    if (!hsb__der_take(&value, HSB__DER_SEQUENCE, &body) || value.len ||
        !hsb__der_optional(&body, HSB__DER_BOOLEAN, &flag) || (flag.ptr && flag.len != 1))
        return false;
    out->is_ca = flag.ptr && flag.ptr[0] != 0;
    return !body.len || (out->is_ca && hsb__der_small(&body, INT32_MAX, &out->path_len) &&
                         !body.len);
}

/* The first byte of a BIT STRING of named bits.                                       */
static bool hsb__x509_walk_bits(hsb_str value, unsigned *bits)
{
    hsb_str all;
    if (!hsb__der_take(&value, HSB__DER_BITS, &all) || value.len || !all.len ||
        hsb__der_byte(all, 0) > (all.len > 1 ? 7 : 0))
        return false;
    *bits = all.len > 1 ? hsb__der_byte(all, 1) : 0;
    return true;
}

/* RFC 5280 4.2.1.12: at least one purpose.  Those that let a client in are clientAuth and
   anyExtendedKeyUsage.                                                                */
static bool hsb__x509_walk_extended_usage(hsb__x509 *out, hsb_str value)
{
    hsb_str list, oid;
    bool found = false;
    if (!hsb__der_take(&value, HSB__DER_SEQUENCE, &list) || value.len || !list.len)
        return false;
    while (list.len) {
        if (!hsb__der_take(&list, HSB__DER_OID, &oid))
            return false;
        found = found || hsb__der_oid_is(oid, "1.3.6.1.5.5.7.3.2") ||
                hsb__der_oid_is(oid, "2.5.29.37.0");
    }
    out->for_clients = found;
    return true;
}

static bool hsb__x509_walk_signer(hsb__x509_signer *out, hsb_str value)
{
    hsb_str body;
    return hsb__der_take(&value, HSB__DER_SEQUENCE, &body) && !value.len &&
           hsb__der_optional(&body, HSB__DER_CONTEXT + 0, &out->key_id) &&
           hsb__der_optional(&body, HSB__DER_EXPLICIT + 1, &out->cert_issuer) &&
           hsb__der_optional(&body, HSB__DER_CONTEXT + 2, &out->cert_serial) && !body.len;
}

static bool hsb__x509_walk_key_id(hsb__x509 *out, hsb_str value)
{
    return hsb__der_take(&value, HSB__DER_OCTETS, &out->key_id) && !value.len;
}

/* One that we know, by its bit.                                                       */
static bool hsb__x509_walk_known(hsb__x509 *out, unsigned which, hsb_str value)
{
    switch (which) {
    case HSB__X509_KEY_ID:         return hsb__x509_walk_key_id(out, value);
    case HSB__X509_KEY_USAGE:      return hsb__x509_walk_bits(value, &out->usage);
    case HSB__X509_SAN:            return hsb__x509_walk_san(out, value);
    case HSB__X509_CONSTRAINTS:    return hsb__x509_walk_constraints(out, value);
    case HSB__X509_SIGNER:         return hsb__x509_walk_signer(&out->issuer, value);
    case HSB__X509_EXTENDED_USAGE: return hsb__x509_walk_extended_usage(out, value);
    case HSB__X509_NETSCAPE:       return hsb__x509_walk_bits(value, &out->netscape);
    default:                       return true;
    }
}

/* Extension (RFC 5280 4.1): its name as text, is it critical, its value.              */
static bool hsb__x509_walk_extension(hsb_str extension, char name[HSB__DER_OID_TEXT],
                                     bool *is_critical, hsb_str *value)
{
    hsb_str oid, critical;
    if (!hsb__der_take(&extension, HSB__DER_OID, &oid) || !hsb__der_oid_text(oid, name) ||
        !hsb__der_optional(&extension, HSB__DER_BOOLEAN, &critical) ||
        (critical.ptr && critical.len != 1) ||
        !hsb__der_take(&extension, HSB__DER_OCTETS, value) || extension.len)
        return false;
    *is_critical = critical.ptr && critical.ptr[0] != 0;
    return true;
}

/* may_be_critical: we do what the extension demands, or refuse it later (name constraints).
   We require no policy, so certificate policies refuse nobody (RFC 5280 6.1.1).       */
static const struct { const char *oid; unsigned bit; bool may_be_critical; }
hsb__x509_known[] = {
    { "2.5.29.14",               HSB__X509_KEY_ID,           false },
    { "2.5.29.15",               HSB__X509_KEY_USAGE,        true },
    { "2.5.29.17",               HSB__X509_SAN,              true },
    { "2.5.29.19",               HSB__X509_CONSTRAINTS,      true },
    { "2.5.29.30",               HSB__X509_NAME_CONSTRAINTS, true },
    { "2.5.29.32",               HSB__X509_POLICIES,         true },
    { "2.5.29.35",               HSB__X509_SIGNER,           false },
    { "2.5.29.37",               HSB__X509_EXTENDED_USAGE,   true },
    { "2.16.840.1.113730.1.1",   HSB__X509_NETSCAPE,         true },
};

static bool hsb__x509_walk_one(hsb__x509 *out, hsb_str extension)
{
    const size_t count = sizeof hsb__x509_known / sizeof *hsb__x509_known;
    char name[HSB__DER_OID_TEXT];
    bool critical;
    hsb_str value;
    size_t i = 0;
    if (!hsb__x509_walk_extension(extension, name, &critical, &value))
        return false;
    while (i < count && strcmp(hsb__x509_known[i].oid, name) != 0)
        i++;
    if (critical && (i == count || !hsb__x509_known[i].may_be_critical))
        out->critical_unknown = true;
    if (i == count)
        return true;
    const unsigned bit = hsb__x509_known[i].bit;
    if (out->has & bit)
        return false;               /* twice: which of them would count?               */
    out->has |= bit;
    return hsb__x509_walk_known(out, bit, value);
}

static bool hsb__x509_walk_extensions(hsb__x509 *out, hsb_str wrapped)
{
    hsb_str list, extension;
    if (!hsb__der_take(&wrapped, HSB__DER_SEQUENCE, &list) || wrapped.len)
        return false;
    while (list.len)
        if (!hsb__der_take(&list, HSB__DER_SEQUENCE, &extension) ||
            !hsb__x509_walk_one(out, extension))
            return false;
    return true;
}

/* In the shortest form, so that equal numbers are equal bytes.                        */
static bool hsb__x509_serial(hsb_str *rest, hsb_str *serial)
{
    if (!hsb__der_take(rest, HSB__DER_INTEGER, serial) || !serial->len)
        return false;
    const unsigned first = hsb__der_byte(*serial, 0);
    const unsigned next = serial->len > 1 ? hsb__der_byte(*serial, 1) >> 7 : 2;
    return !(first == 0 && next == 0) && !(first == 0xFF && next == 1);
}

/* Absent: 1.                                                                          */
static bool hsb__x509_version(hsb_str *rest, unsigned *version)
{
    hsb_str wrapped;
    uint32_t number = 0;
    if (!hsb__der_optional(rest, HSB__DER_EXPLICIT + 0, &wrapped) ||
        (wrapped.ptr && (!hsb__der_small(&wrapped, 2, &number) || wrapped.len)))
        return false;
    *version = number + 1;
    return true;
}

/* TBSCertificate (RFC 5280 4.1): version, serial, signature, issuer, validity, subject,
   key, two identifiers that nobody uses, extensions.                                  */
static bool hsb__x509_walk_tbs(hsb__x509 *out, hsb_str tbs)
{
    hsb_str validity, id, extensions;
    return hsb__x509_version(&tbs, &out->version) && hsb__x509_serial(&tbs, &out->serial) &&
           hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->signed_part.inner) &&
           hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->issuer.name) &&
           hsb__der_take(&tbs, HSB__DER_SEQUENCE, &validity) &&
           hsb__der_time(&validity, &out->not_before) &&
           hsb__der_time(&validity, &out->not_after) && !validity.len &&
           hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->subject) &&
           hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->whole_key) &&
           hsb__der_optional(&tbs, HSB__DER_CONTEXT + 1, &id) &&
           hsb__der_optional(&tbs, HSB__DER_CONTEXT + 2, &id) &&
           hsb__der_optional(&tbs, HSB__DER_EXPLICIT + 3, &extensions) && !tbs.len &&
           (!extensions.ptr ||
            (out->version == 3 && hsb__x509_walk_extensions(out, extensions)));
}

/* Certificate and CertificateList: what is signed, how, and the signature.  Nothing may
   follow.  The caller finds inner in what tbs holds.                                  */
static bool hsb__x509_walk_signed(hsb__x509_signed *out, hsb_str der, hsb_str *tbs)
{
    hsb_str body;
    if (!hsb__der_take(&der, HSB__DER_SEQUENCE, &body) || der.len ||
        !hsb__der_whole(&body, HSB__DER_SEQUENCE, &out->tbs) ||
        !hsb__der_whole(&body, HSB__DER_SEQUENCE, &out->outer) ||
        !hsb__der_bytes(&body, &out->signature) || body.len)
        return false;
    hsb_str whole = out->tbs;
    return hsb__der_take(&whole, HSB__DER_SEQUENCE, tbs);
}

static bool hsb__x509_walk(hsb__x509 *out, const unsigned char *der, size_t len)
{
    hsb_str tbs;
    memset(out, 0, sizeof *out);
    out->path_len = UINT32_MAX;
    out->for_clients = true;
    if (!hsb__x509_walk_signed(&out->signed_part, hsb__text_make((const char *)der, len), &tbs) ||
        !hsb__x509_walk_tbs(out, tbs))
        return false;
    hsb_str whole = out->whole_key;
    return hsb__der_take(&whole, HSB__DER_SEQUENCE, &out->key);
}

static const char hsb__x509_malformed[] = "malformed";

/* RSAPublicKey (RFC 8017 A.1.1)                                                       */
static const char *hsb__x509_rsa_key(hsb_str bytes, br_rsa_public_key *key)
{
    hsb_str body, n, e;
    if (!hsb__der_take(&bytes, HSB__DER_SEQUENCE, &body) || bytes.len ||
        !hsb__der_positive(&body, &n) || !hsb__der_positive(&body, &e) || body.len)
        return hsb__x509_malformed;
    hsb__key_set_number(&key->n, &key->nlen, n);
    hsb__key_set_number(&key->e, &key->elen, e);
    if (e.len > 4 || !(hsb__der_byte(e, e.len - 1) & 1) || (e.len == 1 && e.ptr[0] == 1))
        return "RSA exponent not supported: it is odd, above 1 and has at most 32 bits";
    return hsb__key_rsa_size(n);
}

/* The key of a certificate, pointing into it.  NULL, or why there is none.            */
static const char *hsb__x509_public_key(const hsb__x509 *cert, br_x509_pkey *key)
{
    hsb_str rest = cert->key, bytes;
    int type, curve;
    const char *reason = hsb__key_algorithm(&rest, &type, &curve);
    if (reason)
        return reason == hsb__key_malformed ? hsb__x509_malformed : reason;
    if (!hsb__der_bytes(&rest, &bytes) || rest.len)
        return hsb__x509_malformed;
    memset(key, 0, sizeof *key);
    key->key_type = (unsigned char)type;
    if (type == BR_KEYTYPE_RSA)
        return hsb__x509_rsa_key(bytes, &key->key.rsa);
    key->key.ec.curve = curve;
    hsb__key_set_number(&key->key.ec.q, &key->key.ec.qlen, bytes);
    return curve ? NULL : hsb__x509_malformed;
}

/* --- names in a certificate -------------------------------------------------------- */

/* RFC 5280 4.2.1.6: the context tags of GeneralName                                   */
enum { HSB__X509_MAIL = 1, HSB__X509_DNS = 2, HSB__X509_URI = 6, HSB__X509_IP = 7 };

static bool hsb__x509_is_host_char(char c)
{
    return hsb__byte_is(c, HSB__BYTE_LABEL) || c == '.' || c == '*';
}

/* Nobody who sees only the text may take it for a name of another kind, or for a shorter
   one.  So only printable ASCII counts, and each kind must have what the others cannot:
   a DNS name a letter, which tells it from an IPv4 address; a mail address its @; an URI
   a colon, and more than the digits of an IPv6 address.                               */
static bool hsb__x509_name_is_clear(unsigned kind, hsb_str name)
{
    bool at = false, mark = false, host = true, letter = false, beyond_hex = false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (c <= ' ' || c > '~')
            return false;
        at = at || c == '@';
        mark = mark || c == ':' || c == '/';
        host = host && hsb__x509_is_host_char(c);
        letter = letter || c >= 'A';
        beyond_hex = beyond_hex || (hsb__text_hex(c) < 0 && c != ':' && c != '.');
    }
    if (kind == HSB__X509_URI)
        return beyond_hex && memchr(name.ptr, ':', name.len);
    return kind == HSB__X509_MAIL ? at && !mark : host && letter;
}

static bool hsb__x509_name_is_shown(unsigned kind, hsb_str name)
{
    switch (kind) {
    case HSB__X509_IP:
        return name.len == 4 || name.len == 16;
    case HSB__X509_MAIL:
    case HSB__X509_DNS:
    case HSB__X509_URI:
        return hsb__x509_name_is_clear(kind, name);
    default:
        return false;
    }
}

/* The next one of those that we show.  rest starts as hsb__x509.san.                  */
static bool hsb__x509_next_name(hsb_str *rest, unsigned *kind, hsb_str *name)
{
    unsigned tag;
    while (rest->len && hsb__der_next(rest, &tag, name)) {
        *kind = tag - HSB__DER_CONTEXT;
        if (hsb__x509_name_is_shown(*kind, *name))
            return true;
    }
    return false;
}

static bool hsb__x509_next_dns(hsb_str *rest, hsb_str *name)
{
    unsigned kind;
    while (hsb__x509_next_name(rest, &kind, name))
        if (kind == HSB__X509_DNS)
            return true;
    return false;
}

/* --- what a certificate says, as text -------------------------------------------------
   Printed twice: first with bytes NULL, to learn the length, then for good.           */
typedef struct hsb__x509_text { char *bytes; size_t len; } hsb__x509_text;

enum { HSB__X509_MAX = 64 << 10, HSB__X509_NAMES = 256, HSB__X509_RDNS = 64 };

static void hsb__x509_put(hsb__x509_text *t, const char *bytes, size_t len)
{
    if (t->bytes && len)
        memcpy(t->bytes + t->len, bytes, len);
    t->len += len;
}

static void hsb__x509_put_hex(hsb__x509_text *t, hsb_str bytes, const char *before)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char pair[2];
        hsb__text_print_hex(pair, hsb__der_byte(bytes, i), 'A');
        hsb__x509_put(t, before, strlen(before));
        hsb__x509_put(t, pair, 2);
    }
}

static hsb_str hsb__x509_since(const hsb__x509_text *t, size_t mark)
{
    return hsb__text_make(t->bytes ? t->bytes + mark : NULL, t->len - mark);
}

static bool hsb__x509_is_char(uint32_t c)
{
    return c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);
}

/* The next character of a string of that type; false: it is invalid.                  */
static bool hsb__x509_next_char(hsb_str *rest, unsigned tag, uint32_t *c)
{
    size_t width = tag == HSB__DER_BMP ? 2 : tag == HSB__DER_UNIVERSAL ? 4 : 1;
    if (tag == HSB__DER_UTF8)
        return hsb__utf8_next(rest, c);
    if (rest->len < width)
        return false;
    *c = 0;
    for (size_t i = 0; i < width; i++)
        *c = *c << 8 | hsb__der_byte(*rest, i);
    *rest = hsb__text_after(*rest, width);
    return width == 1 ? *c < 0x80 : hsb__x509_is_char(*c);
}

static bool hsb__x509_is_text(hsb_str value, unsigned tag)
{
    static const unsigned char strings[] = {
        HSB__DER_UTF8, HSB__DER_PRINTABLE, HSB__DER_IA5, HSB__DER_TELETEX, HSB__DER_VISIBLE,
        HSB__DER_NUMERIC, HSB__DER_BMP, HSB__DER_UNIVERSAL,
    };
    uint32_t c;
    if (!memchr(strings, (int)tag, sizeof strings))
        return false;
    while (value.len)
        if (!hsb__x509_next_char(&value, tag, &c))
            return false;
    return true;
}

static size_t hsb__x509_utf8(char out[4], uint32_t c)
{
    size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (char)(more ? (0xFF00u >> (more + 1) & 0xFF) | c >> (6 * more) : c);
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(0x80 | (c >> (6 * (more - i)) & 0x3F));
    return more + 1;
}

/* Writes a value with the escapes of RFC 4514 2.4.                                    */
static void hsb__x509_put_value(hsb__x509_text *t, hsb_str value, unsigned tag)
{
    bool first = true;
    uint32_t c;
    while (value.len && hsb__x509_next_char(&value, tag, &c)) {
        char utf8[4];
        size_t n = hsb__x509_utf8(utf8, c);
        if (hsb__utf8_is_hidden(c)) {
            hsb__x509_put_hex(t, hsb__text_make(utf8, n), "\\");
        } else {
            bool edge = (c == ' ' && (first || !value.len)) || (c == '#' && first);
            if (edge || (c < 0x80 && strchr("\"+,;<>\\", (int)c)))
                hsb__x509_put(t, "\\", 1);
            hsb__x509_put(t, utf8, n);
        }
        first = false;
    }
}

/* Attribute types with a name; RFC 4514 3 has the first nine.                         */
static const char *hsb__x509_type(const char *oid)
{
    static const struct { const char *oid, *name; } types[] = {
        { "2.5.4.3",  "CN" }, { "2.5.4.7", "L" },  { "2.5.4.8", "ST" }, { "2.5.4.10", "O" },
        { "2.5.4.11", "OU" }, { "2.5.4.6", "C" },  { "2.5.4.9", "STREET" },
        { "0.9.2342.19200300.100.1.25", "DC" },    { "0.9.2342.19200300.100.1.1", "UID" },
        { "2.5.4.4",  "SN" }, { "2.5.4.5", "serialNumber" }, { "2.5.4.12", "title" },
        { "2.5.4.42", "givenName" },               { "1.2.840.113549.1.9.1", "emailAddress" },
        { "2.5.4.97", "organizationIdentifier" },
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(oid, types[i].oid) == 0)
            return types[i].name;
    return NULL;
}

/* AttributeTypeAndValue.  A type without a name, or a value that is no text, shows the
   value's DER instead (RFC 4514 2.4).                                                 */
static bool hsb__x509_put_attribute(hsb__x509_text *t, hsb_str attribute)
{
    char oid_text[HSB__DER_OID_TEXT];
    hsb_str oid, value;
    unsigned tag;
    if (!hsb__der_take(&attribute, HSB__DER_OID, &oid) || !hsb__der_oid_text(oid, oid_text))
        return false;
    hsb_str element = attribute;
    if (!hsb__der_next(&attribute, &tag, &value) || attribute.len)
        return false;
    const char *type = hsb__x509_type(oid_text), *shown = type ? type : oid_text;
    hsb__x509_put(t, shown, strlen(shown));
    hsb__x509_put(t, "=", 1);
    if (type && hsb__x509_is_text(value, tag)) {
        hsb__x509_put_value(t, value, tag);
    } else {
        hsb__x509_put(t, "#", 1);
        hsb__x509_put_hex(t, element, "");
    }
    return true;
}

static bool hsb__x509_put_rdn(hsb__x509_text *t, hsb_str rdn)
{
    hsb_str attribute;
    for (bool first = true; rdn.len; first = false) {
        if (!hsb__der_take(&rdn, HSB__DER_SEQUENCE, &attribute))
            return false;
        hsb__x509_put(t, "+", first ? 0 : 1);
        if (!hsb__x509_put_attribute(t, attribute))
            return false;
    }
    return true;
}

/* A Name as RFC 4514 writes it: the last RDN first.                                   */
static bool hsb__x509_put_dn(hsb__x509_text *t, hsb_str name, hsb_str *out)
{
    hsb_str rest, rdns[HSB__X509_RDNS];
    size_t count = 0, mark = t->len;
    if (!hsb__der_take(&name, HSB__DER_SEQUENCE, &rest))
        return false;
    while (rest.len)
        if (count == HSB__X509_RDNS || !hsb__der_take(&rest, HSB__DER_SET, &rdns[count++]))
            return false;
    for (size_t i = count; i-- > 0;) {
        if (!hsb__x509_put_rdn(t, rdns[i]))
            return false;
        hsb__x509_put(t, ",", i ? 1 : 0);
    }
    *out = hsb__x509_since(t, mark);
    return true;
}

static hsb_str hsb__x509_put_name(hsb__x509_text *t, unsigned kind, hsb_str name)
{
    char buf[HSB_ADDRESS_TEXT_MAX];
    hsb_address a;
    size_t mark = t->len;
    if (kind == HSB__X509_IP) {
        memset(&a, 0, sizeof a);
        a.family = name.len == 4 ? HSB_IPV4 : HSB_IPV6;
        memcpy(a.bytes, name.ptr, name.len);
        name = hsb__text_of(hsb__address_text(&a, buf));
    }
    hsb__x509_put(t, name.ptr, name.len);
    return hsb__x509_since(t, mark);
}

/* Everything that is text.  names: space for out->name_count of them, or NULL.        */
static bool hsb__x509_put_all(hsb__x509_text *t, const hsb__x509 *cert, hsb_certificate *out,
                              hsb_str *names)
{
    hsb_str rest = cert->san, name;
    unsigned kind;
    out->name_count = 0;
    if (!hsb__x509_put_dn(t, cert->subject, &out->subject) ||
        !hsb__x509_put_dn(t, cert->issuer.name, &out->issuer))
        return false;
    while (out->name_count < HSB__X509_NAMES && hsb__x509_next_name(&rest, &kind, &name)) {
        hsb_str shown = hsb__x509_put_name(t, kind, name);
        if (names)
            names[out->name_count] = shown;
        out->name_count++;
    }
    return true;
}

static void hsb__x509_sha256(const void *bytes, size_t len, unsigned char out[32])
{
    br_sha256_context sha256;
    br_sha256_init(&sha256);
    br_sha256_update(&sha256, bytes, len);
    br_sha256_out(&sha256, out);
}

/* Without the zero byte that only keeps the number positive.                          */
static hsb_str hsb__x509_shown_serial(const char *bytes, size_t len)
{
    const size_t skip = len > 1 && bytes[0] == 0 ? 1 : 0;
    return hsb__text_make(bytes + skip, len - skip);
}

/* One block: this, the names, the DER, the texts.                                     */
typedef struct hsb__x509_block { hsb_certificate shown; size_t size; } hsb__x509_block;

/* Reads it, and counts what its texts need; false: it cannot be shown.                */
static bool hsb__x509_measure(hsb__x509 *cert, hsb__x509_text *text, hsb_certificate *first,
                              const unsigned char *der, size_t len)
{
    return len <= HSB__X509_MAX && hsb__x509_walk(cert, der, len) &&
           hsb__x509_put_all(text, cert, first, NULL);
}

/* True: hsb__x509_describe can fail only because memory is out.                       */
static bool hsb__x509_can_describe(const unsigned char *der, size_t len)
{
    hsb__x509 cert;
    hsb_certificate first;
    hsb__x509_text text = { NULL, 0 };
    return hsb__x509_measure(&cert, &text, &first, der, len);
}

/* Owned: hsb__x509_forget.  NULL: malformed, larger than we look at, or out of memory. */
static hsb_certificate *hsb__x509_describe(hsb__memory *m, const unsigned char *der,
                                           size_t len)
{
    hsb__x509 cert;
    hsb_certificate first;
    hsb__x509_text text = { NULL, 0 };
    if (!hsb__x509_measure(&cert, &text, &first, der, len))
        return NULL;
    size_t names = (size_t)first.name_count * sizeof(hsb_str);
    size_t size = sizeof(hsb__x509_block) + names + len + text.len;
    hsb__x509_block *block = hsb__memory_zeroed(m, size);
    if (!block)
        return NULL;
    block->size = size;
    hsb_str *name = (hsb_str *)(block + 1);
    char *copy = (char *)name + names;
    memcpy(copy, der, len);
    text.bytes = copy + len;
    text.len = 0;
    hsb__x509_put_all(&text, &cert, &block->shown, name);
    block->shown.der = hsb__text_make(copy, len);
    block->shown.names = name;
    block->shown.not_before = cert.not_before;
    block->shown.not_after = cert.not_after;
    block->shown.serial = hsb__x509_shown_serial(copy + (cert.serial.ptr - (const char *)der),
                                                 cert.serial.len);
    hsb__x509_sha256(cert.whole_key.ptr, cert.whole_key.len, block->shown.key_sha256);
    hsb__x509_sha256(der, len, block->shown.sha256);
    return &block->shown;
}

static void hsb__x509_forget(hsb__memory *m, hsb_certificate *c)
{
    hsb__x509_block *block = (hsb__x509_block *)(void *)c;      /* its first member    */
    if (block)
        hsb__memory_free(m, block, block->size);
}

/* ===== >>trust ===================================================================
   Purpose  what makes a certificate believable: its signature, who issued it, its dates,
            and what it may be used for.  Every rule that looks at one certificate, or at
            one and its issuer, is here; >>verify puts them together for a path
   Uses     >>text >>der >>key >>x509
   Names    hsb__fault, hsb__trust_*
   Tests    tests/unit/verify.c, tests/tls/forged.c

   BearSSL has a validator of its own, and it is not used.  It compares an anchor's name
   and key and nothing else of it, does not read extended key usage, fails on a critical
   one, and verifies a chain from the leaf up, before it is known whether the top is
   trusted.  What we need of BearSSL are its signatures.                                */

/* --- what can be wrong ---------------------------------------------------------------
   code: BearSSL's where it has one; hsb_error.tls_code.  alert: what the client hears
   (RFC 8446 6.2).  text: for errors.                                                  */
typedef struct hsb__fault {
    int           code;
    unsigned char alert;
    const char   *text;
} hsb__fault;

enum {
    HSB__FAULT_ALGORITHMS = 128, HSB__FAULT_NAMES_LIMITED, HSB__FAULT_PATH_LEN,
    HSB__FAULT_PURPOSE, HSB__FAULT_COST, HSB__FAULT_REVOKED, HSB__FAULT_NO_LIST,
    HSB__FAULT_LIST_OLD, HSB__FAULT_LIST_FORGED, HSB__FAULT_LIST_USAGE
};

static const hsb__fault *hsb__trust_fault(int code)
{
    static const hsb__fault faults[] = {
        { BR_ERR_X509_INVALID_VALUE,       42, "malformed" },
        { BR_ERR_X509_LIMIT_EXCEEDED,      43, "more than 5 certificates, or too large" },
        { BR_ERR_X509_UNSUPPORTED,         43, "kind of signature not supported" },
        { BR_ERR_X509_WEAK_PUBLIC_KEY,     43, "key not supported: RSA of 2048 to 4096 bits, "
                                               "P-256, P-384 and P-521 are" },
        { BR_ERR_X509_BAD_SIGNATURE,       42, "wrong signature" },
        { BR_ERR_X509_EXPIRED,             45, "expired or not yet valid" },
        { BR_ERR_X509_CRITICAL_EXTENSION,  43, "critical extension not supported" },
        { BR_ERR_X509_NOT_CA,              42, "issued another one, but is no CA" },
        { BR_ERR_X509_FORBIDDEN_KEY_USAGE, 43, "key usage forbids this" },
        { BR_ERR_X509_NOT_TRUSTED,         48, "not issued by anybody who is trusted" },
        { HSB__FAULT_ALGORITHMS,           42, "names two different signature algorithms" },
        { HSB__FAULT_NAMES_LIMITED,        43, "name constraints are not supported" },
        { HSB__FAULT_PATH_LEN,             42, "issued a longer path than it may" },
        { HSB__FAULT_PURPOSE,              43, "extended key usage does not allow clients" },
        { HSB__FAULT_COST,                 43, "signatures take too long to verify" },
        { HSB__FAULT_REVOKED,              44, "revoked" },
        { HSB__FAULT_NO_LIST,              46, "no revocation list of its issuer is loaded" },
        { HSB__FAULT_LIST_OLD,             46, "the revocation list of its issuer expired" },
        { HSB__FAULT_LIST_FORGED,          46, "the revocation list of its issuer has a wrong "
                                               "signature" },
        { HSB__FAULT_LIST_USAGE,           46, "its issuer may not sign revocation lists" },
    }, other = { 0, 42, "bad certificate" };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i].code == code)
            return &faults[i];
    return &other;
}

/* --- signatures -------------------------------------------------------------------- */

/* RFC 4055 5, RFC 5758 3.2.  No SHA-1, no RSASSA-PSS and no Ed25519.                  */
typedef struct hsb__trust_scheme {
    const char          *oid;
    int                  key_type;
    const br_hash_class *hash;
    const unsigned char *hash_oid;      /* as BearSSL wants it                         */
    size_t               hash_len;
} hsb__trust_scheme;

static const hsb__trust_scheme hsb__trust_schemes[] = {
    { "1.2.840.113549.1.1.11", BR_KEYTYPE_RSA, &br_sha256_vtable,
      (const unsigned char *)BR_HASH_OID_SHA256, 32 },
    { "1.2.840.113549.1.1.12", BR_KEYTYPE_RSA, &br_sha384_vtable,
      (const unsigned char *)BR_HASH_OID_SHA384, 48 },
    { "1.2.840.113549.1.1.13", BR_KEYTYPE_RSA, &br_sha512_vtable,
      (const unsigned char *)BR_HASH_OID_SHA512, 64 },
    { "1.2.840.10045.4.3.2", BR_KEYTYPE_EC, &br_sha256_vtable, NULL, 32 },
    { "1.2.840.10045.4.3.3", BR_KEYTYPE_EC, &br_sha384_vtable, NULL, 48 },
    { "1.2.840.10045.4.3.4", BR_KEYTYPE_EC, &br_sha512_vtable, NULL, 64 },
};

/* NULL: not supported.  ECDSA has no parameters; RSA has a NULL, which some leave out.   */
static const hsb__trust_scheme *hsb__trust_scheme_of(const hsb__x509_signed *s)
{
    hsb_str whole = s->inner, oid, parameters, null;
    if (!hsb__key_scheme(&whole, &oid, &parameters) || whole.len)
        return NULL;
    for (size_t i = 0; i < sizeof hsb__trust_schemes / sizeof *hsb__trust_schemes; i++) {
        const hsb__trust_scheme *scheme = &hsb__trust_schemes[i];
        if (!hsb__der_oid_is(oid, scheme->oid))
            continue;
        if (scheme->key_type == BR_KEYTYPE_RSA &&
            (!hsb__der_optional(&parameters, HSB__DER_NULL, &null) || null.len))
            return NULL;
        return parameters.len ? NULL : scheme;
    }
    return NULL;
}

/* The algorithm is named twice, and only the inner name is signed (RFC 5280 4.1.1.2).    */
static int hsb__trust_check_algorithms(const hsb__x509_signed *s)
{
    return !hsb__text_equal(s->inner, s->outer) ? HSB__FAULT_ALGORITHMS
         : !hsb__trust_scheme_of(s)             ? BR_ERR_X509_UNSUPPORTED : 0;
}

enum { HSB__TRUST_DIGEST = 64 };

static void hsb__trust_hash(const hsb__x509_signed *s, unsigned char out[HSB__TRUST_DIGEST])
{
    const hsb__trust_scheme *scheme = hsb__trust_scheme_of(s);
    br_hash_compat_context hash;
    scheme->hash->init(&hash.vtable);
    scheme->hash->update(&hash.vtable, s->tbs.ptr, s->tbs.len);
    scheme->hash->out(&hash.vtable, out);
}

/* BearSSL reads the two numbers of an ECDSA signature leniently.                         */
static bool hsb__trust_is_ecdsa(hsb_str signature)
{
    hsb_str body, r, s;
    return hsb__der_take(&signature, HSB__DER_SEQUENCE, &body) && !signature.len &&
           hsb__der_positive(&body, &r) && hsb__der_positive(&body, &s) && !body.len;
}

/* Has key signed the bytes that have this digest?                                        */
static bool hsb__trust_verify(const hsb__x509_signed *s,
                              const unsigned char digest[HSB__TRUST_DIGEST],
                              const br_x509_pkey *key)
{
    const hsb__trust_scheme *scheme = hsb__trust_scheme_of(s);
    unsigned char got[HSB__TRUST_DIGEST];
    if (!scheme || scheme->key_type != key->key_type)
        return false;
    if (scheme->key_type == BR_KEYTYPE_EC)
        return hsb__trust_is_ecdsa(s->signature) &&
               br_ecdsa_vrfy_asn1_get_default()(br_ec_get_default(), digest, scheme->hash_len,
                                                &key->key.ec, s->signature.ptr,
                                                s->signature.len);
    return br_rsa_pkcs1_vrfy_get_default()((const unsigned char *)s->signature.ptr,
                                           s->signature.len, scheme->hash_oid,
                                           scheme->hash_len, &key->key.rsa, got) &&
           memcmp(got, digest, scheme->hash_len) == 0;
}

/* What verifying a signature with this key costs; one with P-256 is 1 (0.7 to 0.9 ms).  P-384
   costs up to 6 times and P-521 12 times as much.                                            */
static unsigned hsb__trust_cost(const br_x509_pkey *key)
{
    if (key->key_type == BR_KEYTYPE_RSA)
        return key->key.rsa.nlen > 256 ? 2 : 1;
    return key->key.ec.curve == BR_EC_secp256r1 ? 1 : key->key.ec.curve == BR_EC_secp384r1 ? 6 : 12;
}

/* --- issuers ----------------------------------------------------------------------- */

static bool hsb__trust_differ(hsb_str a, hsb_str b)
{
    return a.ptr && b.ptr && !hsb__text_equal(a, b);
}

/* Of GeneralNames, the first that is a directory name; absent: none.                     */
static hsb_str hsb__trust_directory_name(hsb_str names)
{
    unsigned tag;
    hsb_str name;
    while (names.len && hsb__der_next(&names, &tag, &name))
        if (tag == HSB__DER_EXPLICIT + 4)
            return name;
    return hsb__text_absent();
}

/* Do names and identifiers say that this certificate belongs to the signer?  Names are
   compared byte by byte, as RFC 5280 7.1 wants issuers to write them.                    */
static bool hsb__trust_is_signer(const hsb__x509 *cert, const hsb__x509_signer *signer)
{
    return hsb__text_equal(cert->subject, signer->name) &&
           !hsb__trust_differ(signer->key_id, cert->key_id) &&
           !hsb__trust_differ(signer->cert_serial, cert->serial) &&
           !hsb__trust_differ(hsb__trust_directory_name(signer->cert_issuer),
                              cert->issuer.name);
}

/* --- rules for one certificate -------------------------------------------------------
   0, or the fault.                                                                       */

/* RFC 5280 4.2.1.3: without keyUsage everything is allowed.                              */
static bool hsb__trust_may(const hsb__x509 *cert, unsigned usage)
{
    return !(cert->has & HSB__X509_KEY_USAGE) || cert->usage & usage;
}

/* What holds for every certificate of a path, the anchor included.                       */
static int hsb__trust_check_any(const hsb__x509 *cert)
{
    return cert->has & HSB__X509_NAME_CONSTRAINTS ? HSB__FAULT_NAMES_LIMITED
         : cert->critical_unknown                 ? BR_ERR_X509_CRITICAL_EXTENSION
         : !cert->for_clients                     ? HSB__FAULT_PURPOSE : 0;
}

/* RFC 5280 4.1.2.2: a serial is not negative and has at most 20 bytes.                   */
static int hsb__trust_check_leaf(const hsb__x509 *cert)
{
    if (hsb__der_byte(cert->serial, 0) > 0x7F || cert->serial.len > 21)
        return BR_ERR_X509_INVALID_VALUE;
    if (!hsb__trust_may(cert, HSB__X509_SIGNS))
        return BR_ERR_X509_FORBIDDEN_KEY_USAGE;
    if (cert->has & HSB__X509_NETSCAPE && !(cert->netscape & 0x80))
        return HSB__FAULT_PURPOSE;
    return hsb__trust_check_any(cert);
}

static int hsb__trust_check_issuer(const hsb__x509 *cert)
{
    return !cert->is_ca                                ? BR_ERR_X509_NOT_CA
         : !hsb__trust_may(cert, HSB__X509_SIGNS_CERTS) ? BR_ERR_X509_FORBIDDEN_KEY_USAGE
                                                       : hsb__trust_check_any(cert);
}

/* OpenSSL too takes the last second for the end.                                         */
static bool hsb__trust_is_current(const hsb__x509 *cert, int64_t now)
{
    return cert->not_before <= now && now < cert->not_after;
}

/* ===== >>chain ===================================================================
   Purpose  files of certificates: the chain that the server shows, trust anchors, the
            names that clients are asked with
   Uses     >>memory >>text >>error >>der >>pem >>key >>x509 >>trust
   Names    hsb__chain_*, hsb__anchors_*, hsb__names_*
   Tests    tests/unit/chain.c, tests/unit/trusted_certificate.c, tests/unit/verify.c  */

/* --- files of certificates --------------------------------------------------------- */

/* number counts from one, as people do.                                               */
static bool hsb__chain_refuse(const hsb_pem *pem, size_t number, const char *reason,
                              hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    return hsb__error_set(err, HSB_ERR_CERT, 0, 0, "%s: certificate %zu: %s",
                          hsb__pem_place(pem, buf), number, reason);
}

/* openssl x509 -trustout appends settings of its own to a certificate.                */
static const char *hsb__chain_unreadable(const hsb__object *o)
{
    return strncmp(o->name, "TRUSTED ", 8) == 0
               ? "a TRUSTED CERTIFICATE with OpenSSL's settings; convert it with openssl x509"
               : hsb__x509_malformed;
}

/* A file of certificates, and an array with one item for each.  The caller gives the size of
   an item and the function that fills it.  Pointers in items lead into objects.       */
typedef struct hsb__chain_file {
    hsb__object *objects;
    void        *items;
    size_t       count;
} hsb__chain_file;

/* Fills one item.  NULL, or the reason why the certificate is refused.                */
typedef const char *hsb__chain_fill(void *item, const hsb__x509 *cert, const hsb__object *o);

static void hsb__chain_close(hsb__memory *m, hsb__chain_file *f, size_t size)
{
    hsb__memory_free(m, f->items, f->count * size);
    hsb__pem_free(m, f->objects);
    memset(f, 0, sizeof *f);
}

static bool hsb__chain_read(hsb__chain_file *f, size_t size, hsb__chain_fill *fill,
                            const hsb_pem *pem, hsb_error *err)
{
    char *item = f->items;
    size_t number = 0;
    hsb__x509 cert;
    for (const hsb__object *o = f->objects; o; o = o->next, item += size) {
        const char *reason = hsb__x509_walk(&cert, o->der, o->len) ? fill(item, &cert, o)
                                                                   : hsb__chain_unreadable(o);
        number++;
        if (reason)
            return hsb__chain_refuse(pem, number, reason, err);
    }
    return true;
}

/* At least one certificate, or false.                                                 */
static bool hsb__chain_open(hsb__memory *m, hsb__chain_file *f, size_t size,
                            hsb__chain_fill *fill, const hsb_pem *pem, hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    memset(f, 0, sizeof *f);
    if (!hsb__pem_load(m, pem, &f->objects, err))
        return false;
    hsb__pem_only(m, &f->objects, "CERTIFICATE");
    for (const hsb__object *o = f->objects; o; o = o->next)
        f->count++;
    f->items = f->count ? hsb__memory_array(m, f->count, size) : NULL;
    if (!f->count)
        hsb__error_set(err, HSB_ERR_PEM, 0, 0, "%s: no certificate in it",
                       hsb__pem_place(pem, buf));
    else if (!f->items)
        hsb__error_memory(err);
    else if (hsb__chain_read(f, size, fill, pem, err))
        return true;
    hsb__chain_close(m, f, size);
    return false;
}

/* --- what the server shows --------------------------------------------------------- */
typedef struct hsb__chain {         /* leaf first                                      */
    br_x509_certificate *certs;     /* count of them; their bytes belong to objects    */
    size_t               count;
    int                  key_type;  /* of the leaf                                     */
    hsb__object         *objects;
} hsb__chain;

static void hsb__chain_free(hsb__memory *m, hsb__chain *c)
{
    hsb__chain_file file = { c->objects, c->certs, c->count };
    hsb__chain_close(m, &file, sizeof *c->certs);
    memset(c, 0, sizeof *c);
}

static const char *hsb__chain_fill_cert(void *item, const hsb__x509 *cert,
                                        const hsb__object *o)
{
    br_x509_certificate *out = item;
    (void)cert;
    out->data = o->der;
    out->data_len = o->len;
    return NULL;
}

/* Makes certs from objects that were not read from a file.                            */
static bool hsb__chain_list(hsb__memory *m, hsb__chain *c)
{
    c->certs = hsb__memory_array(m, c->count, sizeof *c->certs);
    br_x509_certificate *cert = c->certs;
    for (const hsb__object *o = c->objects; c->certs && o; o = o->next)
        hsb__chain_fill_cert(cert++, NULL, o);
    return c->certs != NULL;
}

/* Only the leaf's key is checked here: the client judges the certificates after it.   */
static bool hsb__chain_load(hsb__memory *m, hsb__chain *c, const hsb_pem *pem, hsb_error *err)
{
    hsb__chain_file file;
    hsb__x509 leaf;
    br_x509_pkey key;
    memset(c, 0, sizeof *c);
    if (!hsb__chain_open(m, &file, sizeof *c->certs, hsb__chain_fill_cert, pem, err))
        return false;
    c->certs = file.items;
    c->count = file.count;
    c->objects = file.objects;
    const char *reason = hsb__x509_walk(&leaf, c->certs[0].data, c->certs[0].data_len)
                             ? hsb__x509_public_key(&leaf, &key) : hsb__x509_malformed;
    if (!reason) {
        c->key_type = key.key_type;
        return true;
    }
    hsb__chain_free(m, c);
    return hsb__chain_refuse(pem, 1, reason, err);
}

/* Does the key sign what the certificate verifies?  A trial tells more than comparing the
   public numbers would: a key with one wrong factor has the right modulus, signs wrong, and
   one such signature would give the whole key away.                                   */
static bool hsb__chain_try_rsa(const br_rsa_public_key *pub, const br_rsa_private_key *key,
                               const unsigned char hash[32])
{
    unsigned char signature[HSB__KEY_RSA_MAX / 8], got[32];
    size_t len = (key->n_bitlen + 7) / 8;
    return br_rsa_pkcs1_sign_get_default()(BR_HASH_OID_SHA256, hash, 32, key, signature) &&
           br_rsa_pkcs1_vrfy_get_default()(signature, len, BR_HASH_OID_SHA256, 32, pub, got) &&
           memcmp(hash, got, 32) == 0;
}

static bool hsb__chain_try_ec(const br_ec_public_key *pub, const br_ec_private_key *key,
                              const unsigned char hash[32])
{
    unsigned char signature[160];
    const br_ec_impl *ec = br_ec_get_default();
    size_t len = br_ecdsa_sign_asn1_get_default()(ec, &br_sha256_vtable, hash, key, signature);
    return len && pub->curve == key->curve &&
           br_ecdsa_vrfy_asn1_get_default()(ec, hash, 32, pub, signature, len);
}

static bool hsb__chain_try_key(const hsb__chain *c, const hsb__key *k)
{
    static const unsigned char hash[32] = { 1 };
    hsb__x509 cert;
    br_x509_pkey pub;
    return hsb__x509_walk(&cert, c->certs[0].data, c->certs[0].data_len) &&
           !hsb__x509_public_key(&cert, &pub) &&
           (k->type == BR_KEYTYPE_RSA ? hsb__chain_try_rsa(&pub.key.rsa, &k->rsa, hash)
                                      : hsb__chain_try_ec(&pub.key.ec, &k->ec, hash));
}

/* where: how the error names the key.                                                 */
static bool hsb__chain_fits_key(const hsb__chain *c, const hsb__key *k, const char *where,
                                hsb_error *err)
{
    static const char foreign[] = "the key does not belong to the certificate";
    static const char is_rsa[] = "an RSA key, but the certificate is for an EC key";
    static const char is_ec[] = "an EC key, but the certificate is for an RSA key";
    char buf[HSB__PEM_PLACE];
    const char *reason = c->key_type == k->type ? foreign
                       : k->type == BR_KEYTYPE_RSA ? is_rsa : is_ec;
    if (c->key_type == k->type && hsb__chain_try_key(c, k))
        return true;
    return hsb__error_set(err, HSB_ERR_KEY, 0, 0, "%s: %s", hsb__pem_shorten(where, buf),
                          reason);
}

/* --- whom the server trusts --------------------------------------------------------
   A CA vouches for those whose path ends in it.  A certificate that is no CA is a pin: it
   vouches for the client that shows it, byte for byte, and for nobody else.           */
typedef struct hsb__anchor {
    hsb__x509    cert;              /* points into objects, as do the others           */
    br_x509_pkey key;
    hsb_str      der;
} hsb__anchor;

typedef struct hsb__anchors {
    hsb__anchor *list;
    size_t       count;
    hsb__object *objects;
} hsb__anchors;

static void hsb__anchors_free(hsb__memory *m, hsb__anchors *a)
{
    hsb__chain_file file = { a->objects, a->list, a->count };
    hsb__chain_close(m, &file, sizeof *a->list);
    memset(a, 0, sizeof *a);
}

/* An anchor that can never verify anybody is refused at once, where somebody reads
   the reason.  Dates are checked when a client comes.                                 */
static const char *hsb__anchors_fill(void *item, const hsb__x509 *cert, const hsb__object *o)
{
    hsb__anchor *out = item;
    const char *reason = hsb__x509_public_key(cert, &out->key);
    int fault = cert->is_ca ? hsb__trust_check_issuer(cert) : hsb__trust_check_leaf(cert);
    out->cert = *cert;
    out->der = hsb__text_make((const char *)o->der, o->len);
    return reason ? reason : fault ? hsb__trust_fault(fault)->text : NULL;
}

static bool hsb__anchors_load(hsb__memory *m, hsb__anchors *a, const hsb_pem *pem,
                              hsb_error *err)
{
    hsb__chain_file file;
    bool ok = hsb__chain_open(m, &file, sizeof *a->list, hsb__anchors_fill, pem, err);
    a->list = file.items;
    a->count = file.count;
    a->objects = file.objects;
    return ok;
}

/* --- what the server asks for ------------------------------------------------------ */
typedef struct hsb__names {
    br_x500_name *list;             /* they point into objects                         */
    size_t        count;
    size_t        bytes;            /* in CertificateRequest, two of length each included */
    hsb__object  *objects;
} hsb__names;

static void hsb__names_free(hsb__memory *m, hsb__names *n)
{
    hsb__chain_file file = { n->objects, n->list, n->count };
    hsb__chain_close(m, &file, sizeof *n->list);
    memset(n, 0, sizeof *n);
}

static const char *hsb__names_fill(void *item, const hsb__x509 *cert, const hsb__object *o)
{
    br_x500_name *out = item;
    (void)o;
    out->data = hsb__der_pointer(cert->subject);
    out->len = cert->subject.len;
    return NULL;
}

/* RFC 5246 7.4.4: certificate_authorities<0..2^16-1>.  BearSSL adds up the names and sends
   them without looking at that bound.                                                 */
static bool hsb__names_load(hsb__memory *m, hsb__names *n, const hsb_pem *pem, hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    hsb__chain_file file;
    bool ok = hsb__chain_open(m, &file, sizeof *n->list, hsb__names_fill, pem, err);
    n->list = file.items;
    n->count = file.count;
    n->objects = file.objects;
    n->bytes = 0;
    for (size_t i = 0; i < n->count; i++)
        n->bytes += n->list[i].len + 2;
    if (n->bytes <= 0xFFFF)
        return ok;
    hsb__error_set(err, HSB_ERR_LIMIT, 0, 0,
                   "%s: the names of %zu authorities take %zu bytes; a handshake holds 65535",
                   hsb__pem_place(pem, buf), n->count, n->bytes);
    hsb__names_free(m, n);
    return false;
}

/* ===== >>crl =====================================================================
   Purpose  certificate revocation lists (RFC 5280 5): loaded, verified, searched
   Uses     >>memory >>text >>error >>der >>pem >>x509 >>trust >>chain
   Names    hsb__crl_*, hsb__crls_*
   Tests    tests/unit/verify.c, tests/fuzz/chain.c

   A list belongs to the CA that signed it.  If that CA is in trusted, the list is verified
   when it is loaded.  Otherwise it must be an intermediate CA, whose certificate comes with
   a client's chain: then the list is verified with the chain, each time, and one that does
   not verify refuses the client.  Nothing is ever ignored: a list that we could not obey
   (delta, indirect, limited to some certificates) is refused when it is loaded.        */

typedef struct hsb__crl {
    hsb__x509_signed signed_part;   /* points into objects, as do the others           */
    hsb__x509_signer issuer;
    int64_t          this_update, next_update;
    hsb_str          entries;       /* what revokedCertificates holds                  */
    hsb_str         *serials;       /* of the entries, sorted                          */
    size_t           count;
    hsb_str          verified_key;  /* SubjectPublicKeyInfo of the CA in trusted that signed
                                       it; absent: not a CA in trusted                 */
    unsigned char    digest[HSB__TRUST_DIGEST];     /* of what is signed               */
} hsb__crl;

typedef struct hsb__crls {
    hsb__crl    *list;
    size_t       count;
    hsb__object *objects;
} hsb__crls;

static const char hsb__crl_not_whole[] =
    "indirect lists and lists for some certificates only are not supported";

/* --- reading ----------------------------------------------------------------------- */

/* One list extension.  NULL, or why the list is refused.                              */
static const char *hsb__crl_walk_extension(hsb__crl *out, hsb_str extension)
{
    char name[HSB__DER_OID_TEXT];
    bool critical;
    hsb_str value;
    if (!hsb__x509_walk_extension(extension, name, &critical, &value))
        return hsb__x509_malformed;
    if (strcmp(name, "2.5.29.27") == 0)
        return "delta lists are not supported";
    if (strcmp(name, "2.5.29.28") == 0)
        return hsb__crl_not_whole;
    if (critical)
        return "critical extension not supported";
    if (strcmp(name, "2.5.29.35") == 0)
        return hsb__x509_walk_signer(&out->issuer, value) ? NULL : hsb__x509_malformed;
    return NULL;
}

static const char *hsb__crl_walk_extensions(hsb__crl *out, hsb_str wrapped)
{
    hsb_str list, extension;
    if (!hsb__der_take(&wrapped, HSB__DER_SEQUENCE, &list) || wrapped.len)
        return hsb__x509_malformed;
    while (list.len) {
        const char *reason = hsb__der_take(&list, HSB__DER_SEQUENCE, &extension)
                                 ? hsb__crl_walk_extension(out, extension)
                                 : hsb__x509_malformed;
        if (reason)
            return reason;
    }
    return NULL;
}

/* TBSCertList: version, signature, issuer, two dates, entries, extensions.            */
static const char *hsb__crl_walk(hsb__crl *out, const hsb__object *o)
{
    hsb_str tbs, extensions;
    uint32_t version = 0;
    memset(out, 0, sizeof *out);
    if (!hsb__x509_walk_signed(&out->signed_part, hsb__text_make((const char *)o->der, o->len),
                               &tbs) ||
        (hsb__der_starts(tbs, HSB__DER_INTEGER) && !hsb__der_small(&tbs, 1, &version)) ||
        !hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->signed_part.inner) ||
        !hsb__der_whole(&tbs, HSB__DER_SEQUENCE, &out->issuer.name) ||
        !hsb__der_time(&tbs, &out->this_update))
        return hsb__x509_malformed;
    if (!hsb__der_starts(tbs, HSB__DER_UTC_TIME) && !hsb__der_starts(tbs, HSB__DER_TIME))
        return "no nextUpdate: it would be good for ever";
    if (!hsb__der_time(&tbs, &out->next_update) ||
        !hsb__der_optional(&tbs, HSB__DER_SEQUENCE, &out->entries) ||
        !hsb__der_optional(&tbs, HSB__DER_EXPLICIT + 0, &extensions) || tbs.len ||
        (extensions.ptr && version != 1))
        return hsb__x509_malformed;
    return extensions.ptr ? hsb__crl_walk_extensions(out, extensions) : NULL;
}

/* An entry's extensions: a critical one may say that the certificate is of another issuer
   (RFC 5280 5.3.3), and no other is known.                                            */
static const char *hsb__crl_check_entry_extensions(hsb_str list)
{
    char name[HSB__DER_OID_TEXT];
    hsb_str extension, value;
    bool critical;
    while (list.len) {
        if (!hsb__der_take(&list, HSB__DER_SEQUENCE, &extension) ||
            !hsb__x509_walk_extension(extension, name, &critical, &value))
            return hsb__x509_malformed;
        if (strcmp(name, "2.5.29.29") == 0)
            return hsb__crl_not_whole;
        if (critical)
            return "critical extension of an entry not supported";
    }
    return NULL;
}

/* The serial of the next entry.  Whatever its reason is, the certificate is refused.  */
static const char *hsb__crl_next_entry(hsb_str *rest, hsb_str *serial)
{
    hsb_str entry, extensions;
    int64_t date;
    if (!hsb__der_take(rest, HSB__DER_SEQUENCE, &entry) || !hsb__x509_serial(&entry, serial) ||
        !hsb__der_time(&entry, &date) ||
        !hsb__der_optional(&entry, HSB__DER_SEQUENCE, &extensions) || entry.len)
        return hsb__x509_malformed;
    return extensions.ptr ? hsb__crl_check_entry_extensions(extensions) : NULL;
}

static int hsb__crl_compare(const void *a, const void *b)
{
    const hsb_str *x = a, *y = b;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : memcmp(x->ptr, y->ptr, x->len);
}

static const char *hsb__crl_count(hsb__crl *c)
{
    hsb_str rest = c->entries, serial;
    while (rest.len) {
        const char *reason = hsb__crl_next_entry(&rest, &serial);
        if (reason)
            return reason;
        c->count++;
    }
    return NULL;
}

/* After hsb__crl_count, which has read the same entries.  False: no memory.           */
static bool hsb__crl_sort(hsb__memory *m, hsb__crl *c)
{
    hsb_str rest = c->entries;
    if (!c->count)
        return true;
    c->serials = hsb__memory_array(m, c->count, sizeof *c->serials);
    for (size_t i = 0; c->serials && i < c->count; i++)
        hsb__crl_next_entry(&rest, &c->serials[i]);
    if (c->serials)
        qsort(c->serials, c->count, sizeof *c->serials, hsb__crl_compare);
    return c->serials != NULL;
}

/* --- verifying --------------------------------------------------------------------- */

/* NULL, or why the list is refused.  A CA in trusted that has the name of the issuer must
   have signed it.                                                                     */
static const char *hsb__crl_find_signer(hsb__crl *c, const hsb__anchors *trusted)
{
    int fault = 0;
    for (size_t i = 0; i < trusted->count; i++) {
        const hsb__anchor *a = &trusted->list[i];
        if (!a->cert.is_ca || !hsb__trust_is_signer(&a->cert, &c->issuer))
            continue;
        fault = BR_ERR_X509_BAD_SIGNATURE;
        if (!hsb__trust_may(&a->cert, HSB__X509_SIGNS_LISTS))
            fault = HSB__FAULT_LIST_USAGE;
        else if (hsb__trust_verify(&c->signed_part, c->digest, &a->key))
            c->verified_key = a->cert.whole_key;
        if (c->verified_key.ptr)
            return NULL;
    }
    return fault ? hsb__trust_fault(fault)->text : NULL;
}

/* Reads and verifies a list.  Its dates are checked, and its serials sorted, later.   */
static const char *hsb__crl_read(hsb__crl *c, const hsb__object *o, const hsb__anchors *trusted)
{
    const char *reason = hsb__crl_walk(c, o);
    if (reason)
        return reason;
    int fault = hsb__trust_check_algorithms(&c->signed_part);
    if (fault)
        return hsb__trust_fault(fault)->text;
    hsb__trust_hash(&c->signed_part, c->digest);
    reason = hsb__crl_find_signer(c, trusted);
    return reason ? reason : hsb__crl_count(c);
}

/* Two lists of one issuer are refused: nothing says which of them counts.             */
static bool hsb__crls_repeat(const hsb__crls *all, const hsb__crl *c)
{
    for (const hsb__crl *other = all->list; other < c; other++)
        if (hsb__text_equal(other->issuer.name, c->issuer.name) &&
            !hsb__trust_differ(other->issuer.key_id, c->issuer.key_id) &&
            !hsb__trust_differ(other->verified_key, c->verified_key))
            return true;
    return false;
}

/* --- loading ----------------------------------------------------------------------- */
static void hsb__crls_free(hsb__memory *m, hsb__crls *all)
{
    for (size_t i = 0; all->list && i < all->count; i++)
        if (all->list[i].serials)
            hsb__memory_free(m, all->list[i].serials,
                             all->list[i].count * sizeof *all->list[i].serials);
    hsb__memory_free(m, all->list, all->count * sizeof *all->list);
    hsb__pem_free(m, all->objects);
    memset(all, 0, sizeof *all);
}

static bool hsb__crls_refuse(const hsb_pem *pem, size_t number, const char *reason,
                             hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    return hsb__error_set(err, HSB_ERR_CERT, 0, 0, "%s: revocation list %zu: %s",
                          hsb__pem_place(pem, buf), number, reason);
}

/* NULL, or what is wrong with the dates.                                              */
static const char *hsb__crl_check_dates(const hsb__crl *c, int64_t now, char out[64])
{
    const bool early = now < c->this_update;
    const hsb__date d = hsb__date_split(early ? c->this_update : c->next_update);
    if (!early && now < c->next_update)
        return NULL;
    snprintf(out, 64, "%s %04d-%02d-%02d", early ? "not valid before" : "expired on",
             (int)d.year, d.month, d.day);
    return out;
}

static bool hsb__crls_read(hsb__memory *m, hsb__crls *all, const hsb_pem *pem,
                           const hsb__anchors *trusted, int64_t now, hsb_error *err)
{
    hsb__crl *c = all->list;
    char text[64];
    for (const hsb__object *o = all->objects; o; o = o->next, c++) {
        const char *reason = hsb__crl_read(c, o, trusted);
        if (!reason)
            reason = hsb__crl_check_dates(c, now, text);
        if (!reason && hsb__crls_repeat(all, c))
            reason = "a second list of the same issuer";
        if (reason)
            return hsb__crls_refuse(pem, (size_t)(c - all->list) + 1, reason, err);
        if (!hsb__crl_sort(m, c))
            return hsb__error_memory(err);
    }
    return true;
}

static bool hsb__crls_load(hsb__memory *m, hsb__crls *all, const hsb_pem *pem,
                           const hsb__anchors *trusted, int64_t now, hsb_error *err)
{
    char buf[HSB__PEM_PLACE];
    memset(all, 0, sizeof *all);
    if (!hsb__pem_load(m, pem, &all->objects, err))
        return false;
    hsb__pem_only(m, &all->objects, "X509 CRL");
    for (const hsb__object *o = all->objects; o; o = o->next)
        all->count++;
    all->list = all->count ? hsb__memory_array(m, all->count, sizeof *all->list) : NULL;
    if (!all->count)
        hsb__error_set(err, HSB_ERR_PEM, 0, 0, "%s: no revocation list in it",
                       hsb__pem_place(pem, buf));
    else if (!all->list)
        hsb__error_memory(err);
    else if (hsb__crls_read(m, all, pem, trusted, now, err))
        return true;
    hsb__crls_free(m, all);
    return false;
}

/* --- asking ------------------------------------------------------------------------ */
static bool hsb__crl_has(const hsb__crl *c, hsb_str serial)
{
    return c->count && bsearch(&serial, c->serials, c->count, sizeof *c->serials,
                               hsb__crl_compare) != NULL;
}

/* 0, or the fault.  *until becomes the end of the list if that is earlier.            */
static int hsb__crl_judge(const hsb__crl *c, hsb_str serial, int64_t now, int64_t *until)
{
    if (hsb__crl_has(c, serial))
        return HSB__FAULT_REVOKED;
    if (c->next_update < *until)
        *until = c->next_update;
    return now < c->next_update ? 0 : HSB__FAULT_LIST_OLD;
}

/* Is the list this CA's own?  *cost: what is left to spend on signatures.             */
static int hsb__crl_check_signer(const hsb__crl *c, const hsb__x509 *ca,
                                 const br_x509_pkey *key, unsigned *cost)
{
    const unsigned price = hsb__trust_cost(key);
    if (!hsb__trust_may(ca, HSB__X509_SIGNS_LISTS))
        return HSB__FAULT_LIST_USAGE;
    if (c->verified_key.ptr)
        return 0;
    if (price > *cost)
        return HSB__FAULT_COST;
    *cost -= price;
    return hsb__trust_verify(&c->signed_part, c->digest, key) ? 0 : HSB__FAULT_LIST_FORGED;
}

/* Has ca, which issued the certificate with this serial, revoked it?  The signatures
   of the path have been verified.  There must be a list.                              */
static int hsb__crls_check(const hsb__crls *all, hsb_str serial, const hsb__x509 *ca,
                           const br_x509_pkey *key, int64_t now, unsigned *cost,
                           int64_t *until)
{
    bool found = false;
    for (size_t i = 0; i < all->count; i++) {
        const hsb__crl *c = &all->list[i];
        if (!hsb__trust_is_signer(ca, &c->issuer) ||
            hsb__trust_differ(c->verified_key, ca->whole_key))
            continue;
        int fault = hsb__crl_check_signer(c, ca, key, cost);
        if (!fault)
            fault = hsb__crl_judge(c, serial, now, until);
        if (fault)
            return fault;
        found = true;
    }
    return found ? 0 : HSB__FAULT_NO_LIST;
}

/* A certificate in trusted.  It needs no list, as it is trusted by itself.  But a
   list that names its issuer is obeyed, verified or not.                              */
static int hsb__crls_check_trusted(const hsb__crls *all, const hsb__x509 *cert, int64_t now,
                                   int64_t *until)
{
    int fault = 0;
    for (size_t i = 0; i < all->count && !fault; i++)
        if (hsb__text_equal(all->list[i].issuer.name, cert->issuer.name))
            fault = hsb__crl_judge(&all->list[i], cert->serial, now, until);
    return fault;
}

/* ===== >>selfsigned ==============================================================
   Purpose  writes certificates: the one that a server without files makes for itself, a
            CA's own, and what that signs
   Uses     >>platform >>memory >>text >>error >>address >>der >>pem >>key >>x509 >>chain
   Names    hsb__selfsigned_*, hsb__san_*
   Tests    tests/unit/selfsigned.c                                                    */

/* --- names ----------------------------------------------------------------------------
   What GeneralNames holds (RFC 5280 4.2.1.6): each name once, in the order given.
   localhost gets the loopback addresses too.                                          */
enum { HSB__SAN_NAMES = 100 };

typedef struct hsb__san {
    hsb__der_out der;                       /* owned: see hsb__san_free                */
    char         shown[HSB__HOST_SIZE];     /* the first name                          */
} hsb__san;

static void hsb__san_free(hsb__memory *m, hsb__san *san)
{
    hsb__memory_free(m, san->der.bytes, san->der.size);
    memset(san, 0, sizeof *san);
}

static hsb_str hsb__san_text(const hsb__san *san)
{
    return hsb__text_make((const char *)san->der.bytes, san->der.len);
}

static void hsb__san_put(hsb__san *san, unsigned kind, const void *bytes, size_t len)
{
    hsb_str rest = hsb__san_text(san), name;
    unsigned tag;
    while (rest.len && hsb__der_next(&rest, &tag, &name))
        if (tag == HSB__DER_CONTEXT + kind && name.len == len && !memcmp(name.ptr, bytes, len))
            return;
    hsb__der_put_element(&san->der, HSB__DER_CONTEXT + kind, bytes, len);
}

/* False: neither an address nor a host name (RFC 1035 2.3.4: at most 253 bytes).      */
static bool hsb__san_add(hsb__san *san, const char *name)
{
    static const unsigned char v4[4] = { 127, 0, 0, 1 }, v6[16] = { [15] = 1 };
    char host[HSB__HOST_SIZE];
    hsb_address address;
    bool is_address = hsb__address_parse(&address, name) && !address.scope_id;
    if (!is_address && (!hsb__host_normalise_pattern(host, hsb__text_of(name)) ||
                        strlen(host) > 253))
        return false;
    if (!san->shown[0])
        snprintf(san->shown, sizeof san->shown, "%s", is_address ? name : host);
    if (is_address)
        hsb__san_put(san, HSB__X509_IP, address.bytes,
                     address.family == HSB_IPV4 ? sizeof v4 : sizeof v6);
    else
        hsb__san_put(san, HSB__X509_DNS, host, strlen(host));
    if (!is_address && strcmp(host, "localhost") == 0) {
        hsb__san_put(san, HSB__X509_IP, v4, sizeof v4);
        hsb__san_put(san, HSB__X509_IP, v6, sizeof v6);
    }
    return true;
}

/* first may be NULL, and so may more, which is NULL-ended.  After false there is nothing
   to free.                                                                            */
static bool hsb__san_make(hsb__memory *m, hsb__san *san, const char *first,
                          const char *const *more, hsb_error *err)
{
    const char *name = first;
    size_t size = 64 + (first ? strlen(first) : 0), count = 0;
    memset(san, 0, sizeof *san);
    for (; more && more[count] && count < HSB__SAN_NAMES; count++)
        size += strlen(more[count]) + 32;           /* an address in DER is at most 18 */
    if (more && more[count])
        return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "more than %d names for a certificate",
                              (int)HSB__SAN_NAMES);
    san->der.bytes = hsb__memory_alloc(m, size);
    san->der.size = san->der.bytes ? size : 0;
    if (!san->der.bytes)
        return hsb__error_memory(err);
    bool good = !first || hsb__san_add(san, first);
    for (size_t i = 0; i < count && good; i++)
        good = hsb__san_add(san, name = more[i]);
    if (good)
        return true;
    hsb__san_free(m, san);
    return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                          "certificate: \"%.80s\" is no host name or address", name);
}

/* --- a certificate ------------------------------------------------------------------------
   What a server signs for itself is not a CA: trusting it means trusting this server, and no
   certificate that its key might sign.                                                */
enum {
    HSB__SELFSIGNED_DAYS = 397,
    HSB__SELFSIGNED_SKEW = 3600,            /* seconds that a client's clock may be slow */
    HSB__SELFSIGNED_REST = 1024             /* bytes beside the names                  */
};

typedef struct hsb__selfsigned {
    const hsb__key *key;                    /* only its public half is written         */
    const char     *shown;                  /* the common name                         */
    hsb_str         names;                  /* of an hsb__san; absent: none            */
    hsb_str         acme;                   /* RFC 8737 3: the SHA-256; absent: none   */
    int64_t         from, until;
    bool            is_ca;
    const hsb__key *signer;                 /* NULL: key, and the next two are not used */
    hsb_str         issuer;                 /* DER of its Name                         */
    hsb_str         issuer_id;              /* of its key                              */
    /* hsb__selfsigned_prepare fills these in                                          */
    unsigned char   serial[16], key_id[20];
    unsigned char   point[BR_EC_KBUF_PUB_MAX_SIZE];
    size_t          point_len;
} hsb__selfsigned;

/* RFC 5280 A.1: a common name has 64 characters at most.  A longer name is only in
   the SAN, and a fixed text takes its place here, as the issuer must not be empty.    */
static void hsb__selfsigned_put_name(hsb__der_out *out, const char *name)
{
    hsb_str shown = hsb__text_of(strlen(name) <= 64 ? name : "self-signed");
    size_t dn = hsb__der_open(out, HSB__DER_SEQUENCE);
    size_t rdn = hsb__der_open(out, HSB__DER_SET);
    size_t attribute = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "2.5.4.3");
    hsb__der_put_element(out, HSB__DER_UTF8, shown.ptr, shown.len);
    hsb__der_close(out, attribute);
    hsb__der_close(out, rdn);
    hsb__der_close(out, dn);
}

static void hsb__selfsigned_put_validity(hsb__der_out *out, int64_t from, int64_t until)
{
    size_t mark = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_time(out, from);
    hsb__der_put_time(out, until);
    hsb__der_close(out, mark);
}

static void hsb__selfsigned_put_bits(hsb__der_out *out, const void *bytes, size_t len)
{
    size_t mark = hsb__der_open(out, HSB__DER_BITS);
    hsb__der_put_byte(out, 0);
    hsb__der_put(out, bytes, len);
    hsb__der_close(out, mark);
}

/* SubjectPublicKeyInfo of a point on P-256                                            */
static void hsb__selfsigned_put_key(hsb__der_out *out, const unsigned char *point, size_t len)
{
    size_t mark = hsb__der_open(out, HSB__DER_SEQUENCE);
    size_t algorithm = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "1.2.840.10045.2.1");
    hsb__der_put_oid(out, "1.2.840.10045.3.1.7");
    hsb__der_close(out, algorithm);
    hsb__selfsigned_put_bits(out, point, len);
    hsb__der_close(out, mark);
}

static void hsb__selfsigned_put_signature_kind(hsb__der_out *out)
{
    size_t mark = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "1.2.840.10045.4.3.2");               /* ecdsa-with-SHA256   */
    hsb__der_close(out, mark);
}

/* The signature of all that was written since mark.                                   */
static void hsb__selfsigned_sign(hsb__der_out *out, size_t mark, const hsb__key *signer)
{
    unsigned char hash[br_sha256_SIZE], signature[160];
    hsb__x509_sha256(out->bytes + mark, out->len - mark, hash);
    size_t len = br_ecdsa_sign_asn1_get_default()(br_ec_get_default(), &br_sha256_vtable, hash,
                                                  &signer->ec, signature);
    hsb__selfsigned_put_signature_kind(out);
    hsb__selfsigned_put_bits(out, signature, len);
}

/* What an extension's OCTET STRING holds is written between open and close.           */
typedef struct hsb__selfsigned_mark { size_t extension, value; } hsb__selfsigned_mark;

static hsb__selfsigned_mark hsb__selfsigned_open_extension(hsb__der_out *out, const char *oid,
                                                 bool critical)
{
    static const unsigned char yes = 0xFF;
    hsb__selfsigned_mark mark;
    mark.extension = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, oid);
    if (critical)
        hsb__der_put_element(out, HSB__DER_BOOLEAN, &yes, 1);
    mark.value = hsb__der_open(out, HSB__DER_OCTETS);
    return mark;
}

static void hsb__selfsigned_close_extension(hsb__der_out *out, hsb__selfsigned_mark mark)
{
    hsb__der_close(out, mark.value);
    hsb__der_close(out, mark.extension);
}

static void hsb__selfsigned_put_san(hsb__der_out *out, hsb_str names)
{
    hsb__selfsigned_mark mark = hsb__selfsigned_open_extension(out, "2.5.29.17", false);
    size_t list = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put(out, names.ptr, names.len);
    hsb__der_close(out, list);
    hsb__selfsigned_close_extension(out, mark);
}

/* RFC 5280 4.2.1: basicConstraints; keyUsage digitalSignature, or for a CA keyCertSign and
   cRLSign; extKeyUsage serverAuth.  A CA of ours signs no other CA.                   */
static void hsb__selfsigned_put_purpose(hsb__der_out *out, const hsb__selfsigned *self)
{
    static const unsigned char no_ca[] = { HSB__DER_SEQUENCE, 0 };
    static const unsigned char is_ca[] = {
        HSB__DER_SEQUENCE, 6, HSB__DER_BOOLEAN, 1, 0xFF, HSB__DER_INTEGER, 1, 0
    };
    static const unsigned char signature_only[] = { HSB__DER_BITS, 2, 7, 0x80 };
    static const unsigned char certs_and_lists[] = { HSB__DER_BITS, 2, 1, 0x06 };
    hsb__selfsigned_mark mark = hsb__selfsigned_open_extension(out, "2.5.29.19", true);
    hsb__der_put(out, self->is_ca ? is_ca : no_ca, self->is_ca ? sizeof is_ca : sizeof no_ca);
    hsb__selfsigned_close_extension(out, mark);

    mark = hsb__selfsigned_open_extension(out, "2.5.29.15", true);
    hsb__der_put(out, self->is_ca ? certs_and_lists : signature_only, sizeof signature_only);
    hsb__selfsigned_close_extension(out, mark);
    if (self->is_ca)
        return;
    mark = hsb__selfsigned_open_extension(out, "2.5.29.37", false);
    size_t list = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_oid(out, "1.3.6.1.5.5.7.3.1");
    hsb__der_close(out, list);
    hsb__selfsigned_close_extension(out, mark);
}

/* The identifiers of both keys: they tell this certificate from yesterday's, which has the
   same name and another key.                                                          */
static void hsb__selfsigned_put_ids(hsb__der_out *out, const hsb__selfsigned *self)
{
    hsb_str signer = hsb__text_make((const char *)self->key_id, sizeof self->key_id);
    hsb__selfsigned_mark mark = hsb__selfsigned_open_extension(out, "2.5.29.14", false);
    hsb__der_put_element(out, HSB__DER_OCTETS, self->key_id, sizeof self->key_id);
    hsb__selfsigned_close_extension(out, mark);
    if (self->signer)
        signer = self->issuer_id;
    if (!signer.len)
        return;
    mark = hsb__selfsigned_open_extension(out, "2.5.29.35", false);
    size_t list = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__der_put_element(out, HSB__DER_CONTEXT + 0, signer.ptr, signer.len);
    hsb__der_close(out, list);
    hsb__selfsigned_close_extension(out, mark);
}

static void hsb__selfsigned_put_extensions(hsb__der_out *out, const hsb__selfsigned *self)
{
    hsb__selfsigned_put_purpose(out, self);
    if (self->names.ptr)
        hsb__selfsigned_put_san(out, self->names);
    hsb__selfsigned_put_ids(out, self);
    if (!self->acme.ptr)
        return;
    hsb__selfsigned_mark mark =
        hsb__selfsigned_open_extension(out, "1.3.6.1.5.5.7.1.31", true);
    hsb__der_put_element(out, HSB__DER_OCTETS, self->acme.ptr, self->acme.len);
    hsb__selfsigned_close_extension(out, mark);
}

static void hsb__selfsigned_put_tbs(hsb__der_out *out, const hsb__selfsigned *self)
{
    static const unsigned char v3 = 2;
    size_t tbs = hsb__der_open(out, HSB__DER_SEQUENCE);
    size_t version = hsb__der_open(out, HSB__DER_EXPLICIT + 0);
    hsb__der_put_element(out, HSB__DER_INTEGER, &v3, 1);
    hsb__der_close(out, version);
    hsb__der_put_element(out, HSB__DER_INTEGER, self->serial, sizeof self->serial);
    hsb__selfsigned_put_signature_kind(out);
    if (self->signer)
        hsb__der_put(out, self->issuer.ptr, self->issuer.len);
    else
        hsb__selfsigned_put_name(out, self->shown);
    hsb__selfsigned_put_validity(out, self->from, self->until);
    hsb__selfsigned_put_name(out, self->shown);
    hsb__selfsigned_put_key(out, self->point, self->point_len);
    size_t wrapped = hsb__der_open(out, HSB__DER_EXPLICIT + 3);
    size_t list = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__selfsigned_put_extensions(out, self);
    hsb__der_close(out, list);
    hsb__der_close(out, wrapped);
    hsb__der_close(out, tbs);
}

static void hsb__selfsigned_put(hsb__der_out *out, const hsb__selfsigned *self)
{
    size_t cert = hsb__der_open(out, HSB__DER_SEQUENCE);
    hsb__selfsigned_put_tbs(out, self);
    hsb__selfsigned_sign(out, cert, self->signer ? self->signer : self->key);
    hsb__der_close(out, cert);
}

/* RFC 5280 4.1.2.2: a serial number is positive and has 20 bytes at most.  RFC 7093 2 (1):
   a key's identifier is the first 160 bits of the SHA-256 of its point.               */
static bool hsb__selfsigned_prepare(hsb__selfsigned *self)
{
    br_ec_public_key pub;
    unsigned char hash[br_sha256_SIZE];
    if (!hsb__os_entropy(self->serial, sizeof self->serial))
        return false;
    self->serial[0] = (unsigned char)((self->serial[0] & 0x7F) | 0x40);
    self->point_len =
        br_ec_compute_pub(br_ec_get_default(), &pub, self->point, &self->key->ec);
    hsb__x509_sha256(self->point, self->point_len, hash);
    memcpy(self->key_id, hash, sizeof self->key_id);
    return true;
}

/* One certificate, as a chain of its own.  Its keys are on P-256.                     */
static bool hsb__selfsigned_issue(hsb__memory *m, hsb__chain *c, hsb__selfsigned *self,
                                  hsb_error *err)
{
    size_t size = HSB__SELFSIGNED_REST + self->names.len + self->issuer.len;
    memset(c, 0, sizeof *c);
    HSB_ASSERT(self->key->type == BR_KEYTYPE_EC && self->key->ec.curve == BR_EC_secp256r1);
    if (!hsb__selfsigned_prepare(self))
        return hsb__error_system(err, hsb__os_error(), "random bytes for a certificate");
    hsb__der_out out = { hsb__memory_alloc(m, size), 0, size, false };
    if (!out.bytes)
        return hsb__error_memory(err);
    hsb__selfsigned_put(&out, self);
    c->objects = out.full ? NULL : hsb__pem_object(m, "CERTIFICATE", out.bytes, out.len);
    hsb__memory_free(m, out.bytes, size);
    if (out.full)
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                              "self-signed certificate: the clock is wrong");
    c->count = 1;
    c->key_type = BR_KEYTYPE_EC;
    if (c->objects && hsb__chain_list(m, c))
        return true;
    hsb__chain_free(m, c);
    return hsb__error_memory(err);
}

/* k: from hsb__key_generate.  more: see hsb__san_make.                                */
static bool hsb__selfsigned_make(hsb__memory *m, hsb__chain *c, const hsb__key *k,
                                 const char *name, const char *const *more, int64_t now,
                                 hsb_error *err)
{
    hsb__san san;
    hsb__selfsigned self;
    memset(c, 0, sizeof *c);
    if (!hsb__san_make(m, &san, name, more, err))
        return false;
    memset(&self, 0, sizeof self);
    self.key = k;
    self.shown = san.shown;
    self.names = hsb__san_text(&san);
    self.from = now - HSB__SELFSIGNED_SKEW;
    self.until = now + HSB__SELFSIGNED_DAYS * INT64_C(86400);
    bool ok = hsb__selfsigned_issue(m, c, &self, err);
    hsb__san_free(m, &san);
    return ok;
}

/* ===== >>localca =================================================================
   Purpose  a CA of this machine, in a folder: a client that trusts it once accepts every
            certificate that servers here make with it
   Uses     >>platform >>memory >>text >>error >>address >>pem >>folder >>key >>x509
            >>trust >>chain >>selfsigned
   Names    hsb__localca_*
   Tests    tests/unit/localca.c, tests/fault/folder.c, tests/check/trust.sh

   The folder holds ca.key, ca.pem, and for each server NAME.pem: its certificate and key in
   one file, so that a crash cannot leave two that do not belong together.  NAME is the
   first name of the server.

   What is good stays.  ca.key is made once.  ca.pem is made from it, and made anew with
   the same key when less than 30 days are left; clients must trust it again then.  NAME.pem
   is made anew if it cannot be read, if its names are others, if it does not come from this
   ca.pem, or if less than 30 days are left.  A clock that is too slow, as on a machine that
   has just started, changes nothing.                                                   */

enum {
    HSB__LOCALCA_DAYS = 3650,
    HSB__LOCALCA_LEFT = 30              /* days                                         */
};

typedef struct hsb__localca {
    hsb__memory  *memory;
    hsb__folder   folder;
    int64_t       now;
    hsb__key      key;
    hsb__chain    chain;
    hsb__x509     cert;                 /* points into chain                            */
} hsb__localca;

static void hsb__localca_close(hsb__localca *ca)
{
    hsb__key_free(ca->memory, &ca->key);
    hsb__chain_free(ca->memory, &ca->chain);
    hsb__folder_close(&ca->folder);
}

static bool hsb__localca_is_fresh(const hsb__localca *ca, const hsb__x509 *cert)
{
    return ca->now + HSB__LOCALCA_LEFT * INT64_C(86400) < cert->not_after;
}

/* The certificate, and for a server its key, in one file.                              */
static bool hsb__localca_write(const hsb__localca *ca, const char *name,
                               const br_x509_certificate *cert, const hsb__key *key_or_null,
                               hsb_error *err)
{
    hsb__memory *m = ca->memory;
    size_t cert_len, key_len = 0;
    char *shown = hsb__pem_encode(m, "CERTIFICATE", cert->data, cert->data_len, &cert_len);
    char *secret = key_or_null ? hsb__key_encode(m, key_or_null, &key_len) : NULL;
    size_t len = cert_len + key_len;
    char *both = shown && (secret || !key_or_null) ? hsb__memory_alloc(m, len) : NULL;
    if (both) {
        memcpy(both, shown, cert_len);
        if (key_len)
            memcpy(both + cert_len, secret, key_len);
    }
    hsb__memory_free(m, shown, cert_len + 1);
    hsb__memory_free_secret(m, secret, key_len + 1);
    bool ok = both ? hsb__folder_write(&ca->folder, name, hsb__text_make(both, len), err)
                   : hsb__error_memory(err);
    hsb__memory_free_secret(m, both, len);
    return ok;
}

/* --- the CA ------------------------------------------------------------------------------- */

static bool hsb__localca_make_key(hsb__localca *ca, hsb_error *err)
{
    hsb__memory *m = ca->memory;
    size_t len;
    if (hsb__folder_has(&ca->folder, "ca.pem"))
        return hsb__error_set(err, HSB_ERR_KEY, 0, 0, "%s: ca.pem is there, but not its ca.key",
                              ca->folder.place);
    if (!hsb__key_generate(m, &ca->key, err))
        return false;
    char *text = hsb__key_encode(m, &ca->key, &len);
    bool ok = text ? hsb__folder_write(&ca->folder, "ca.key", hsb__text_make(text, len), err)
                   : hsb__error_memory(err);
    hsb__memory_free_secret(m, text, len + 1);
    return ok;
}

/* Its name is its own, so that a client that trusts two machines cannot confuse them.  */
static bool hsb__localca_make_cert(hsb__localca *ca, hsb_error *err)
{
    unsigned char random[4];
    char shown[64];
    hsb__selfsigned self;
    hsb__chain fresh;
    if (!hsb__os_entropy(random, sizeof random))
        return hsb__error_system(err, hsb__os_error(), "random bytes for a certificate");
    snprintf(shown, sizeof shown, "Local CA of httpsbind.h %02x%02x%02x%02x", random[0],
             random[1], random[2], random[3]);
    memset(&self, 0, sizeof self);
    self.key = &ca->key;
    self.shown = shown;
    self.from = ca->now - HSB__SELFSIGNED_SKEW;
    self.until = ca->now + HSB__LOCALCA_DAYS * INT64_C(86400);
    self.is_ca = true;
    if (!hsb__selfsigned_issue(ca->memory, &fresh, &self, err))
        return false;
    hsb__chain_free(ca->memory, &ca->chain);
    ca->chain = fresh;
    return hsb__localca_write(ca, "ca.pem", &fresh.certs[0], NULL, err);
}

static bool hsb__localca_load_key(hsb__localca *ca, hsb_error *err)
{
    char path[HSB__PATH_MAX];
    hsb_pem pem;
    memset(&pem, 0, sizeof pem);
    pem.path = path;
    if (!hsb__folder_has(&ca->folder, "ca.key"))
        return hsb__localca_make_key(ca, err);
    if (!hsb__folder_file(&ca->folder, "ca.key", path, err) ||
        !hsb__key_load(ca->memory, &ca->key, &pem, NULL, err))
        return false;
    return (ca->key.type == BR_KEYTYPE_EC && ca->key.ec.curve == BR_EC_secp256r1) ||
           hsb__error_set(err, HSB_ERR_KEY, 0, 0, "%s: ca.key is no key on P-256",
                          ca->folder.place);
}

/* What a file that somebody else put there must not be.                                */
static bool hsb__localca_check_cert(hsb__localca *ca, hsb_error *err)
{
    const br_x509_certificate *cert = &ca->chain.certs[0];
    if (!hsb__chain_fits_key(&ca->chain, &ca->key, "ca.key", err))
        return false;
    if (!hsb__x509_walk(&ca->cert, cert->data, cert->data_len) || !ca->cert.is_ca ||
        hsb__trust_check_issuer(&ca->cert))
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0, "%s: ca.pem is no CA's certificate",
                              ca->folder.place);
    return true;
}

static bool hsb__localca_load_cert(hsb__localca *ca, hsb_error *err)
{
    char path[HSB__PATH_MAX];
    hsb_pem pem;
    memset(&pem, 0, sizeof pem);
    pem.path = path;
    if (!hsb__folder_has(&ca->folder, "ca.pem"))
        return hsb__localca_make_cert(ca, err) && hsb__localca_check_cert(ca, err);
    if (!hsb__folder_file(&ca->folder, "ca.pem", path, err) ||
        !hsb__chain_load(ca->memory, &ca->chain, &pem, err) || !hsb__localca_check_cert(ca, err))
        return false;
    return hsb__localca_is_fresh(ca, &ca->cert) ||
           (hsb__localca_make_cert(ca, err) && hsb__localca_check_cert(ca, err));
}

/* --- a server ------------------------------------------------------------------------------ */

/* Whether the file is as a new one would be, but for its dates.                        */
static bool hsb__localca_is_good(const hsb__localca *ca, const hsb__chain *c,
                                 const hsb__key *k, const hsb__san *san)
{
    unsigned char digest[HSB__TRUST_DIGEST];
    hsb__x509 cert;
    br_x509_pkey signer;
    if (!hsb__x509_walk(&cert, c->certs[0].data, c->certs[0].data_len) ||
        hsb__x509_public_key(&ca->cert, &signer) ||
        hsb__trust_check_algorithms(&cert.signed_part))
        return false;
    hsb__trust_hash(&cert.signed_part, digest);
    return hsb__localca_is_fresh(ca, &cert) && !cert.is_ca &&
           hsb__text_equal(cert.san, hsb__san_text(san)) &&
           hsb__text_equal(cert.issuer.name, ca->cert.subject) &&
           hsb__trust_verify(&cert.signed_part, digest, &signer) &&
           hsb__chain_fits_key(c, k, "", NULL);
}

/* The certificate of the last time.  False, and HSB_OK: there is none, or not a good one. */
static bool hsb__localca_load(const hsb__localca *ca, const char *file, const hsb__san *san,
                              hsb__chain *c, hsb__key *k, hsb_error *err)
{
    char path[HSB__PATH_MAX];
    hsb_pem pem;
    memset(&pem, 0, sizeof pem);
    pem.path = path;
    memset(k, 0, sizeof *k);
    memset(c, 0, sizeof *c);
    hsb__error_clear(err);
    if (!hsb__folder_has(&ca->folder, file))
        return false;
    if (hsb__folder_file(&ca->folder, file, path, err) &&
        hsb__chain_load(ca->memory, c, &pem, err) &&
        hsb__key_load(ca->memory, k, &pem, NULL, err) && hsb__localca_is_good(ca, c, k, san))
        return true;
    if (err->status != HSB_ERR_MEMORY && err->status != HSB_ERR_SYSTEM)
        hsb__error_clear(err);                      /* what it says is no good: make it anew */
    hsb__key_free(ca->memory, k);
    hsb__chain_free(ca->memory, c);
    return false;
}

static bool hsb__localca_sign(const hsb__localca *ca, const char *file, const hsb__san *san,
                              hsb__chain *c, hsb__key *k, hsb_error *err)
{
    hsb__selfsigned self;
    memset(&self, 0, sizeof self);
    memset(c, 0, sizeof *c);
    if (!hsb__key_generate(ca->memory, k, err))
        return false;
    self.key = k;
    self.shown = san->shown;
    self.names = hsb__san_text(san);
    self.from = ca->now - HSB__SELFSIGNED_SKEW;
    self.until = ca->now + HSB__SELFSIGNED_DAYS * INT64_C(86400);
    if (self.until > ca->cert.not_after)
        self.until = ca->cert.not_after;
    self.signer = &ca->key;
    self.issuer = ca->cert.subject;
    self.issuer_id = ca->cert.key_id;
    if (hsb__selfsigned_issue(ca->memory, c, &self, err) &&
        hsb__localca_write(ca, file, &c->certs[0], k, err))
        return true;
    hsb__chain_free(ca->memory, c);
    hsb__key_free(ca->memory, k);
    return false;
}

/* A certificate and its key for these names (see hsb__san_make), from the CA in path.  Waits
   for another process that does the same.                                              */
static bool hsb__localca_make(hsb__memory *m, const char *path, hsb__chain *c, hsb__key *k,
                              const char *name, const char *const *more, int64_t now,
                              hsb_error *err)
{
    hsb__localca ca;
    hsb__san san;
    char file[HSB__HOST_SIZE + 8];
    hsb_error why;
    memset(&ca, 0, sizeof ca);
    ca.memory = m;
    ca.now = now;
    if (!hsb__san_make(m, &san, name, more, err))
        return false;
    hsb__folder_name(file, sizeof file, san.shown, ".pem");
    bool ok = hsb__folder_open(&ca.folder, path, true, &why) &&
              hsb__localca_load_key(&ca, &why) && hsb__localca_load_cert(&ca, &why) &&
              (hsb__localca_load(&ca, file, &san, c, k, &why) ||
               (why.status == HSB_OK && hsb__localca_sign(&ca, file, &san, c, k, &why)));
    if (!ok && err)
        *err = why;
    hsb__localca_close(&ca);
    hsb__san_free(m, &san);
    return ok;
}

/* ===== >>security ================================================================
   Purpose  the immutable, counted object behind hsb_security: identities by server
            name, trust, the fastest primitives of this CPU, and the session cache
   Uses     >>platform >>memory >>text >>error >>address >>pem >>key >>x509 >>chain >>crl
            >>selfsigned >>localca
   Names    hsb__crypto_*, hsb__host_*, hsb__leaf_*, hsb__session_*, hsb__sessions_*,
            hsb__suite_*, hsb__security_*
   Tests    tests/unit/security.c, tests/unit/sessions.c, tests/unit/wipes.c,
            tests/unit/tls_resumption.c, tests/tls/renewal.c

   Threads.  Servers on several threads use one security at once.  After new two things
   change: the session cache, behind its lock, and the reference count, atomically.      */

/* --- primitives -----------------------------------------------------------------------
   What BearSSL considers the fastest on this machine.  Each question costs a CPUID
   instruction, which a virtual machine traps (13-20 us): so a security asks once, and a
   connection never.                                                                     */
typedef struct hsb__crypto {
    const br_ec_impl            *ec;
    br_ecdsa_sign                ecdsa_sign;
    br_ecdsa_vrfy                ecdsa_verify;
    br_rsa_pkcs1_sign            rsa_sign;
    br_rsa_pkcs1_vrfy            rsa_verify;
    br_rsa_private               rsa_private;
    br_rsa_public                rsa_public;
    const br_block_cbcenc_class *cbc_encrypt;
    const br_block_cbcdec_class *cbc_decrypt;
    const br_block_ctr_class    *ctr;
    br_ghash                     ghash;
    br_chacha20_run              chacha20;
    br_poly1305_run              poly1305;
    bool                         aes_is_fast;   /* AES and GHASH in hardware           */
} hsb__crypto;

/* BearSSL takes the SSE2 ChaCha20 wherever there is one.  Intel's CPUs run it faster than the
   portable one (0.67 against 0.52 GB/s), AMD's run it slower (0.35 against 0.57).       */
static br_chacha20_run hsb__crypto_choose_chacha20(br_chacha20_run offered)
{
    return hsb__os_cpu_is_amd() ? br_chacha20_ct_run : offered;
}

/* The portable code for AES and GHASH runs in constant time, and so at 0.1-0.4 GB/s.
   Whatever else the library picks uses instructions that are made for it.               */
static bool hsb__crypto_aes_is_fast(const hsb__crypto *c)
{
    return c->ctr != &br_aes_ct64_ctr_vtable && c->ctr != &br_aes_ct_ctr_vtable &&
           c->ghash != br_ghash_ctmul64 && c->ghash != br_ghash_ctmul &&
           c->ghash != br_ghash_ctmul32;
}

/* The library makes its choice in its set_default functions, and only for an engine.
   So it chooses for a scratch engine, and we read the pointers from there.              */
static void hsb__crypto_detect(hsb__crypto *c)
{
    br_ssl_engine_context scratch;
    memset(&scratch, 0, sizeof scratch);
    br_ssl_engine_set_default_ecdsa(&scratch);
    br_ssl_engine_set_default_ec(&scratch);
    br_ssl_engine_set_default_rsavrfy(&scratch);
    br_ssl_engine_set_default_aes_gcm(&scratch);
    br_ssl_engine_set_default_aes_cbc(&scratch);
    br_ssl_engine_set_default_chapol(&scratch);
    c->ec = scratch.iec;
    c->ecdsa_sign = br_ecdsa_sign_asn1_get_default();
    c->ecdsa_verify = scratch.iecdsa;
    c->rsa_sign = br_rsa_pkcs1_sign_get_default();
    c->rsa_verify = scratch.irsavrfy;
    c->rsa_private = br_rsa_private_get_default();
    c->rsa_public = br_rsa_public_get_default();
    c->cbc_encrypt = scratch.iaes_cbcenc;
    c->cbc_decrypt = scratch.iaes_cbcdec;
    c->ctr = scratch.iaes_ctr;
    c->ghash = scratch.ighash;
    c->chacha20 = hsb__crypto_choose_chacha20(scratch.ichacha);
    c->poly1305 = scratch.ipoly;
    c->aes_is_fast = hsb__crypto_aes_is_fast(c);
}

/* --- identities ------------------------------------------------------------------------- */
typedef struct hsb__identity {
    hsb__chain chain;
    hsb__key   key;
    bool       named;               /* in hosts                                          */
} hsb__identity;

/* A name and who answers to it: an EC key, an RSA key or both.                          */
typedef struct hsb__host {
    char                *name;      /* normalised; "*.example.org": any one label there  */
    const hsb__identity *ec, *rsa;
} hsb__host;

/* The certificate of a client while a handshake runs: a block of the thread's pool.      */
typedef struct hsb__leaf {
    unsigned char *der;             /* NULL: none                                        */
    size_t         len, size;       /* size: of the block                                */
} hsb__leaf;

static void hsb__leaf_drop(hsb__pool *pool, hsb__leaf *leaf)
{
    hsb__pool_put(pool, leaf->der, leaf->size);
    memset(leaf, 0, sizeof *leaf);
}

static bool hsb__leaf_copy(hsb__pool *pool, hsb__leaf *leaf, const void *der, size_t len)
{
    leaf->size = leaf->len = len;
    leaf->der = len ? hsb__pool_get(pool, &leaf->size) : NULL;
    if (leaf->der)
        memcpy(leaf->der, der, len);
    return leaf->der || !len;
}

/* --- sessions -----------------------------------------------------------------------------
   Everything that may resume, in a hash table and in a list from the newest to the oldest.
   A session belongs to its binding: the digest of all that has to be the same when it is
   resumed (>>choice makes it).  IDs are random and ours, so their first bytes index well
   and nobody can choose them to collide.                                                */
typedef struct hsb__session {
    struct hsb__session *next;          /* in its bucket                                 */
    struct hsb__session *newer, *older;
    unsigned char        id[32];
    unsigned char        secret[48];
    unsigned char        binding[32];
    uint64_t             until_us;      /* hsb__os_now_us: too old from then on          */
    int64_t              until_wall;    /* hsb__os_wall: end of the client's certificate */
    uint16_t             suite;
    uint32_t             leaf_len;      /* the client's certificate follows; 0: none     */
    unsigned char        leaf[];
} hsb__session;

typedef struct hsb__sessions {
    hsb__mutex     lock;                /* guards all below but limit and lifetime_us    */
    bool           open;
    size_t         limit;               /* bytes; 0: nothing is kept                     */
    uint64_t       lifetime_us;
    hsb__memory   *memory;
    size_t         used;                /* bytes                                         */
    hsb__session **buckets;
    size_t         bucket_count;        /* a power of two                                */
    hsb__session  *newest, *oldest;
} hsb__sessions;

static size_t hsb__session_size(size_t leaf_len)
{
    return sizeof(hsb__session) + leaf_len;
}

static bool hsb__session_is_expired(const hsb__session *s)
{
    return hsb__os_now_us() >= s->until_us || hsb__os_wall() > s->until_wall;
}

static bool hsb__sessions_open(hsb__sessions *all, hsb__memory *m, size_t limit,
                               uint64_t seconds)
{
    size_t count = 1;
    hsb__mutex_init(&all->lock);
    all->open = true;
    all->memory = m;
    all->lifetime_us = seconds * 1000000;
    while (count < limit / 256)
        count *= 2;
    if (limit < count * sizeof *all->buckets + hsb__session_size(0))
        return true;                                    /* not even one: keep nothing    */
    all->buckets = hsb__memory_array(m, count, sizeof *all->buckets);
    all->bucket_count = count;
    all->limit = limit;
    all->used = count * sizeof *all->buckets;
    return all->buckets != NULL;
}

static hsb__session **hsb__sessions_bucket(hsb__sessions *all, const unsigned char id[32])
{
    uint32_t index;
    memcpy(&index, id, sizeof index);
    return &all->buckets[index & (all->bucket_count - 1)];
}

/* Removes it from the list and joins its neighbours.                                    */
static void hsb__sessions_unlink(hsb__sessions *all, hsb__session *s)
{
    *(s->newer ? &s->newer->older : &all->newest) = s->older;
    *(s->older ? &s->older->newer : &all->oldest) = s->newer;
}

static void hsb__sessions_link_newest(hsb__sessions *all, hsb__session *s)
{
    s->newer = NULL;
    s->older = all->newest;
    *(all->newest ? &all->newest->newer : &all->oldest) = s;
    all->newest = s;
}

static hsb__session **hsb__sessions_find(hsb__sessions *all, const unsigned char id[32])
{
    hsb__session **link = hsb__sessions_bucket(all, id);
    while (*link && memcmp((*link)->id, id, 32) != 0)
        link = &(*link)->next;
    return link;
}

static void hsb__sessions_drop(hsb__sessions *all, hsb__session *s)
{
    size_t size = hsb__session_size(s->leaf_len);
    *hsb__sessions_find(all, s->id) = s->next;
    hsb__sessions_unlink(all, s);
    all->used -= size;
    hsb__memory_free_secret(all->memory, s, size);
}

static void hsb__sessions_close(hsb__sessions *all)
{
    if (!all->open)
        return;
    while (all->oldest)
        hsb__sessions_drop(all, all->oldest);
    hsb__memory_free(all->memory, all->buckets, all->bucket_count * sizeof *all->buckets);
    hsb__mutex_done(&all->lock);
    all->open = false;
}

/* Memory for a session with a certificate of leaf_len bytes.  If the cache is full, the
   sessions that were used least recently are dropped; one of the right size is reused
   as it is, so that a full cache does not allocate.  NULL: it does not fit, or no
   memory.                                                                               */
static hsb__session *hsb__sessions_make(hsb__sessions *all, size_t leaf_len)
{
    size_t size = hsb__session_size(leaf_len);
    if (size > all->limit - all->bucket_count * sizeof *all->buckets)
        return NULL;
    while (all->used > all->limit - size) {
        hsb__session *old = all->oldest;
        if (old->leaf_len == leaf_len) {
            *hsb__sessions_find(all, old->id) = old->next;
            hsb__sessions_unlink(all, old);
            return old;
        }
        hsb__sessions_drop(all, old);
    }
    hsb__session *s = hsb__memory_alloc(all->memory, size);
    all->used += s ? size : 0;
    return s;
}

/* Among the few sessions that were used least recently, drops those that can no longer
   resume, so that their secrets do not stay in memory.                                  */
static void hsb__sessions_drop_expired(hsb__sessions *all)
{
    enum { FEW = 4 };
    hsb__session *s = all->oldest, *newer;
    for (int i = 0; s && i < FEW; i++, s = newer) {
        newer = s->newer;
        if (hsb__session_is_expired(s))
            hsb__sessions_drop(all, s);
    }
}

/* Adds a copy of a session, with its client's certificate, as the newest.  If the ID
   exists already, nothing is added.                                                     */
static void hsb__sessions_save(hsb__sessions *all, const hsb__session *given, const void *leaf)
{
    if (!all->limit)
        return;
    hsb__mutex_lock(&all->lock);
    hsb__sessions_drop_expired(all);
    bool exists = *hsb__sessions_find(all, given->id) != NULL;
    hsb__session *s = exists ? NULL : hsb__sessions_make(all, given->leaf_len);
    if (s) {
        hsb__session **bucket = hsb__sessions_bucket(all, given->id);
        memcpy(s, given, sizeof *s);
        if (s->leaf_len)
            memcpy(s->leaf, leaf, s->leaf_len);
        s->next = *bucket;
        *bucket = s;
        hsb__sessions_link_newest(all, s);
    }
    hsb__mutex_unlock(&all->lock);
}

/* The session of that ID, if there is one that may still resume.                         */
static hsb__session *hsb__sessions_fresh(hsb__sessions *all, const unsigned char id[32])
{
    hsb__session *s = *hsb__sessions_find(all, id);
    if (!s || !hsb__session_is_expired(s))
        return s;
    hsb__sessions_drop(all, s);
    return NULL;
}

/* Copies the session of that ID and that binding; its certificate to *leaf, for which the
   caller passes an empty one.                                                            */
static bool hsb__sessions_load(hsb__sessions *all, const unsigned char id[32],
                               const unsigned char binding[32], hsb__session *out,
                               hsb__pool *pool, hsb__leaf *leaf)
{
    if (!all->limit)
        return false;
    hsb__mutex_lock(&all->lock);
    hsb__session *s = hsb__sessions_fresh(all, id);
    bool found = s && memcmp(s->binding, binding, 32) == 0 &&
                 hsb__leaf_copy(pool, leaf, s->leaf, s->leaf_len);
    if (found) {
        memcpy(out, s, sizeof *out);
        hsb__sessions_unlink(all, s);
        hsb__sessions_link_newest(all, s);
    }
    hsb__mutex_unlock(&all->lock);
    return found;
}

/* --- suites -------------------------------------------------------------------------------
   ECDHE with an AEAD; for old clients with CBC too, but only with SHA-2, because the engine
   takes the MAC's hash from those that it accepts in signatures, and SHA-1 is not one.
   Within a kind the best come first.                                                    */
typedef enum hsb__suite_kind {
    HSB__SUITE_AES_GCM, HSB__SUITE_CHACHA20, HSB__SUITE_AES_CBC
} hsb__suite_kind;

typedef struct hsb__suite {
    uint16_t        number;
    unsigned char   key_type;           /* of the certificate: BR_KEYTYPE_*              */
    hsb__suite_kind kind;
    const char     *name;
} hsb__suite;

static const hsb__suite hsb__suites[] = {
    { 0xC02B, BR_KEYTYPE_EC,  HSB__SUITE_AES_GCM,  "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
    { 0xC02F, BR_KEYTYPE_RSA, HSB__SUITE_AES_GCM,  "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" },
    { 0xC02C, BR_KEYTYPE_EC,  HSB__SUITE_AES_GCM,  "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
    { 0xC030, BR_KEYTYPE_RSA, HSB__SUITE_AES_GCM,  "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" },
    { 0xCCA9, BR_KEYTYPE_EC,  HSB__SUITE_CHACHA20,
      "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" },
    { 0xCCA8, BR_KEYTYPE_RSA, HSB__SUITE_CHACHA20,
      "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" },
    { 0xC023, BR_KEYTYPE_EC,  HSB__SUITE_AES_CBC,  "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256" },
    { 0xC027, BR_KEYTYPE_RSA, HSB__SUITE_AES_CBC,  "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256" },
    { 0xC024, BR_KEYTYPE_EC,  HSB__SUITE_AES_CBC,  "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384" },
    { 0xC028, BR_KEYTYPE_RSA, HSB__SUITE_AES_CBC,  "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384" }
};

enum { HSB__SUITES = sizeof hsb__suites / sizeof hsb__suites[0] };

static const hsb__suite *hsb__suite_find(unsigned number)
{
    for (size_t i = 0; i < HSB__SUITES; i++)
        if (hsb__suites[i].number == number)
            return &hsb__suites[i];
    return NULL;
}

static const char *hsb__suite_name(unsigned number)
{
    const hsb__suite *suite = hsb__suite_find(number);
    return suite ? suite->name : "";
}

static bool hsb__suite_is_chacha20(unsigned number)
{
    const hsb__suite *suite = hsb__suite_find(number);
    return suite && suite->kind == HSB__SUITE_CHACHA20;
}

/* TLS 1.3 uses a session once.  False: somebody else has used it meanwhile.               */
static bool hsb__sessions_remove(hsb__sessions *all, const unsigned char id[32])
{
    hsb__mutex_lock(&all->lock);
    hsb__session *s = *hsb__sessions_find(all, id);
    if (s)
        hsb__sessions_drop(all, s);
    hsb__mutex_unlock(&all->lock);
    return s != NULL;
}

/* --- the security ---------------------------------------------------------------------- */

struct hsb_security {
    hsb__memory    memory;
    size_t         references;          /* atomic                                        */
    hsb__crypto    crypto;
    hsb__identity *identities;          /* the first one is the default                  */
    size_t         identity_count;
    hsb__host     *hosts;               /* sorted by name                                */
    size_t         host_count, host_space;
    hsb__host      fallback;            /* when no name matches; its name is NULL        */
    hsb__anchors   trusted;             /* verify client certificates                    */
    hsb__crls      revoked;             /* their revocation lists                        */
    hsb__names     authorities;         /* are advertised in CertificateRequest          */
    const char   **alpn;                /* one block: the pointers, then the names       */
    size_t         alpn_count, alpn_size;
    hsb_tls_versions versions;
    void         (*on_key_log)(const char *line, void *user);
    void          *key_log_user;
    bool         (*ml_kem_768)(const uint8_t *, uint8_t *, uint8_t *, void *user);
    void          *ml_kem_user;
    bool           seals;               /* tickets, with keys made of ticket_key         */
    unsigned char  ticket_key[32];
    uint16_t       suites[HSB__SUITES];         /* what we speak, best first             */
    size_t         suite_count;
    hsb__sessions  sessions;
    char          *pem;                 /* the default leaf                              */
    size_t         pem_len;
    uint8_t        sha256[32];
};

static void hsb__security_retain(hsb_security *s)
{
    hsb__atomic_add(&s->references, 1);
}

static void hsb__security_destroy(hsb_security *s)
{
    hsb__memory m = s->memory;
    hsb__sessions_close(&s->sessions);
    for (size_t i = 0; i < s->host_count; i++)
        hsb__memory_free(&m, s->hosts[i].name, strlen(s->hosts[i].name) + 1);
    hsb__memory_free(&m, s->hosts, s->host_space * sizeof *s->hosts);
    for (size_t i = 0; i < s->identity_count; i++) {
        hsb__chain_free(&m, &s->identities[i].chain);
        hsb__key_free(&m, &s->identities[i].key);
    }
    hsb__memory_free(&m, s->identities, s->identity_count * sizeof *s->identities);
    hsb__anchors_free(&m, &s->trusted);
    hsb__crls_free(&m, &s->revoked);
    hsb__names_free(&m, &s->authorities);
    hsb__memory_free(&m, (void *)s->alpn, s->alpn_size);
    hsb__memory_free(&m, s->pem, s->pem_len + 1);
    hsb__memory_free_secret(&m, s, sizeof *s);
}

static void hsb__security_release(hsb_security *s)
{
    if (s && hsb__atomic_sub(&s->references, 1) == 0)
        hsb__security_destroy(s);
}

/* AES first where the CPU does it (2-9 GB/s against 0.5 for ChaCha20), ChaCha20 first
   elsewhere.                                                                            */
static void hsb__security_order_suites(hsb_security *s, hsb_ciphers ciphers)
{
    const bool aes_first = s->crypto.aes_is_fast;
    const hsb__suite_kind order[] = {
        aes_first ? HSB__SUITE_AES_GCM : HSB__SUITE_CHACHA20,
        aes_first ? HSB__SUITE_CHACHA20 : HSB__SUITE_AES_GCM,
        HSB__SUITE_AES_CBC
    };
    const size_t kinds = ciphers == HSB_CIPHERS_COMPATIBLE ? 3 : 2;
    s->suite_count = 0;
    for (size_t kind = 0; kind < kinds; kind++)
        for (size_t i = 0; i < HSB__SUITES; i++)
            if (hsb__suites[i].kind == order[kind])
                s->suites[s->suite_count++] = hsb__suites[i].number;
}

static bool hsb__security_copy_alpn(hsb_security *s, const char *const *names,
                                    hsb_error *err)
{
    static const char *const usual[] = { "http/1.1", NULL };
    size_t count = 0, bytes = 0;
    for (names = names ? names : usual; names[count]; count++) {
        size_t len = strlen(names[count]);
        if (len < 1 || len > 255 || count == 255)       /* RFC 7301 3.1                  */
            return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0,
                                  "alpn: at most 255 names of 1 to 255 bytes");
        bytes += len + 1;
    }
    if (count == 0)
        return true;
    s->alpn_size = count * sizeof *s->alpn + bytes;
    s->alpn = hsb__memory_alloc(&s->memory, s->alpn_size);
    if (!s->alpn)
        return hsb__error_memory(err);
    char *at = (char *)(s->alpn + count);
    for (; s->alpn_count < count; s->alpn_count++) {
        size_t size = strlen(names[s->alpn_count]) + 1;
        s->alpn[s->alpn_count] = memcpy(at, names[s->alpn_count], size);
        at += size;
    }
    return true;
}

static bool hsb__security_load_trust(hsb_security *s, const hsb_security_desc *desc,
                                     hsb_error *err)
{
    const hsb_pem *trusted = &desc->trusted, *names = &desc->client_authorities;
    if (!hsb__pem_is_set(names))
        names = trusted;
    if (hsb__pem_is_set(&desc->revoked) && !hsb__pem_is_set(trusted))
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                              "revoked is set, but trusted, which it is about, is not");
    return (!hsb__pem_is_set(trusted) ||
            hsb__anchors_load(&s->memory, &s->trusted, trusted, err)) &&
           (!hsb__pem_is_set(&desc->revoked) ||
            hsb__crls_load(&s->memory, &s->revoked, &desc->revoked, &s->trusted,
                           hsb__os_wall(), err)) &&
           (!hsb__pem_is_set(names) ||
            hsb__names_load(&s->memory, &s->authorities, names, err));
}

static bool hsb__security_load_identity(hsb_security *s, hsb__identity *out,
                                        const hsb_identity *in, hsb_error *err)
{
    const char *where = in->key.path ? in->key.path : "the key given";
    return hsb__chain_load(&s->memory, &out->chain, &in->chain, err) &&
           hsb__key_load(&s->memory, &out->key, &in->key, in->password, err) &&
           hsb__chain_fits_key(&out->chain, &out->key, where, err);
}

static bool hsb__security_make_identity(hsb_security *s, hsb__identity *out,
                                        const hsb_security_desc *desc, hsb_error *err)
{
    hsb__memory *m = &s->memory;
    const char *name = desc->self_signed_for, *const *more = desc->self_signed_names;
    if (desc->local_ca)
        return hsb__localca_make(m, desc->local_ca, &out->chain, &out->key, name, more,
                                 hsb__os_wall(), err);
    return hsb__key_generate(m, &out->key, err) &&
           hsb__selfsigned_make(m, &out->chain, &out->key, name, more, hsb__os_wall(), err);
}

/* --- the table of names --------------------------------------------------------------- */
static bool hsb__security_grow_hosts(hsb_security *s)
{
    size_t space = s->host_space ? s->host_space * 2 : 8;
    hsb__host *hosts = hsb__memory_grow(&s->memory, s->hosts, s->host_space * sizeof *hosts,
                                        space * sizeof *hosts);
    if (!hosts)
        return false;
    s->hosts = hosts;
    s->host_space = space;
    return true;
}

static bool hsb__security_add_host(hsb_security *s, const char *name, hsb__identity *who,
                                   hsb_error *err)
{
    if (s->host_count == s->host_space && !hsb__security_grow_hosts(s))
        return hsb__error_memory(err);
    hsb__host *h = &s->hosts[s->host_count];
    h->name = hsb__memory_copy_text(&s->memory, name, strlen(name));
    if (!h->name)
        return hsb__error_memory(err);
    *(who->key.type == BR_KEYTYPE_EC ? &h->ec : &h->rsa) = who;
    who->named = true;
    s->host_count++;
    return true;
}

static bool hsb__security_add_given_name(hsb_security *s, hsb__identity *who,
                                         const char *server_name, hsb_error *err)
{
    char name[HSB__HOST_SIZE];
    if (!hsb__host_normalise_pattern(name, hsb__text_of(server_name)))
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0, "server_name %s: not a host name",
                              server_name);
    return hsb__security_add_host(s, name, who, err);
}

static bool hsb__security_add_own_names(hsb_security *s, hsb__identity *who, hsb_error *err)
{
    const br_x509_certificate *leaf = &who->chain.certs[0];
    char name[HSB__HOST_SIZE];
    hsb__x509 cert;
    hsb_str dns;
    if (!hsb__x509_walk(&cert, leaf->data, leaf->data_len))
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0, "certificate: malformed");
    while (hsb__x509_next_dns(&cert.san, &dns))
        if (hsb__host_normalise_pattern(name, dns) &&
            !hsb__security_add_host(s, name, who, err))
            return false;
    return true;
}

static int hsb__host_compare(const void *a, const void *b)
{
    const hsb__host *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (order)
        return order;
    const hsb__identity *i = x->ec ? x->ec : x->rsa, *j = y->ec ? y->ec : y->rsa;
    return i < j ? -1 : i > j;          /* all in one array: the identity given first wins */
}

/* Sorts the names and lets those that are equal share an entry.                          */
static void hsb__security_merge_hosts(hsb_security *s)
{
    size_t kept = 0;
    if (s->host_count)
        qsort(s->hosts, s->host_count, sizeof *s->hosts, hsb__host_compare);
    for (size_t i = 0; i < s->host_count; i++) {
        hsb__host *last = kept ? &s->hosts[kept - 1] : NULL, h = s->hosts[i];
        if (!last || strcmp(last->name, h.name) != 0) {
            s->hosts[kept++] = h;
            continue;
        }
        last->ec = last->ec ? last->ec : h.ec;
        last->rsa = last->rsa ? last->rsa : h.rsa;
        hsb__memory_free(&s->memory, h.name, strlen(h.name) + 1);
    }
    s->host_count = kept;
}

/* The default identity; and beside it, with the other kind of key, the first that shares
   a name with it, or else the first that has no name at all.                             */
static void hsb__security_choose_fallback(hsb_security *s)
{
    const hsb__identity *first = &s->identities[0];
    const bool ec = first->key.type == BR_KEYTYPE_EC;
    const hsb__identity **other = ec ? &s->fallback.rsa : &s->fallback.ec;
    *(ec ? &s->fallback.ec : &s->fallback.rsa) = first;
    for (size_t i = 0; i < s->host_count && !*other; i++) {
        const hsb__host *h = &s->hosts[i];
        if ((ec ? h->ec : h->rsa) == first)
            *other = ec ? h->rsa : h->ec;
    }
    for (size_t i = 1; i < s->identity_count && !*other; i++) {
        const hsb__identity *who = &s->identities[i];
        if (!who->named && who->key.type != first->key.type)
            *other = who;
    }
}

static bool hsb__security_load_one(hsb_security *s, hsb__identity *who,
                                   const hsb_identity *in, hsb_error *err)
{
    return hsb__security_load_identity(s, who, in, err) &&
           (in->server_name ? hsb__security_add_given_name(s, who, in->server_name, err)
                            : hsb__security_add_own_names(s, who, err));
}

static bool hsb__security_load_default(hsb_security *s, hsb__identity *who,
                                       const hsb_security_desc *desc, hsb_error *err)
{
    if (!desc->self_signed_for)
        return hsb__security_load_one(s, who, &desc->identity, err);
    return hsb__security_make_identity(s, who, desc, err) &&
           hsb__security_add_own_names(s, who, err);
}

/* The default first, then the others in their order.  Without a default the first of
   those is the default.                                                                  */
static bool hsb__security_load_identities(hsb_security *s, const hsb_security_desc *desc,
                                          hsb_error *err)
{
    const hsb_identity *given = &desc->identity;
    const bool loads = hsb__pem_is_set(&given->chain) || hsb__pem_is_set(&given->key);
    const size_t own = loads || desc->self_signed_for ? 1 : 0;
    const size_t more = desc->identity_count > 0 ? (size_t)desc->identity_count : 0;
    if (loads && desc->self_signed_for)
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                              "both identity and self_signed_for are set");
    if ((desc->local_ca || desc->self_signed_names) && !desc->self_signed_for)
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                              "%s is set, but self_signed_for, which it is about, is not",
                              desc->local_ca ? "local_ca" : "self_signed_names");
    if (own + more == 0)
        return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                              "no certificate: set identity or self_signed_for");
    s->identities = hsb__memory_array(&s->memory, own + more, sizeof *s->identities);
    if (!s->identities)
        return hsb__error_memory(err);
    s->identity_count = own + more;
    if (own && !hsb__security_load_default(s, &s->identities[0], desc, err))
        return false;
    for (size_t i = 0; i < more; i++)
        if (!hsb__security_load_one(s, &s->identities[own + i], &desc->identities[i], err))
            return false;
    hsb__security_merge_hosts(s);
    hsb__security_choose_fallback(s);
    return true;
}

/* What hsb_security_pem and hsb_security_sha256 show.                                    */
static bool hsb__security_describe(hsb_security *s, hsb_error *err)
{
    const br_x509_certificate *leaf = &s->identities[0].chain.certs[0];
    hsb__x509_sha256(leaf->data, leaf->data_len, s->sha256);
    s->pem = hsb__pem_encode(&s->memory, "CERTIFICATE", leaf->data, leaf->data_len,
                             &s->pem_len);
    return s->pem || hsb__error_memory(err);
}

static bool hsb__security_open_cache(hsb_security *s, const hsb_security_desc *desc,
                                     hsb_error *err)
{
    int bytes = desc->session_cache_bytes ? desc->session_cache_bytes : 1 << 20;
    int seconds = desc->session_seconds > 0 ? desc->session_seconds : 3600;
    if (seconds > 86400)
        seconds = 86400;                                /* RFC 5246 F.1.4                 */
    return hsb__sessions_open(&s->sessions, &s->memory, bytes > 0 ? (size_t)bytes : 0,
                              (uint64_t)seconds) || hsb__error_memory(err);
}

static bool hsb__security_copy_ticket_key(hsb_security *s, hsb_str key, hsb_error *err)
{
    s->seals = key.ptr != NULL;
    if (!s->seals)
        return true;
    if (key.len != sizeof s->ticket_key)
        return hsb__error_set(err, HSB_ERR_KEY, 0, 0, "ticket_key: %zu bytes, not 32", key.len);
    memcpy(s->ticket_key, key.ptr, sizeof s->ticket_key);
    return true;
}

static bool hsb__security_load(hsb_security *s, const hsb_security_desc *desc, hsb_error *err)
{
    hsb__crypto_detect(&s->crypto);
    hsb__security_order_suites(s, desc->ciphers);
    s->versions = desc->versions;
    s->on_key_log = desc->on_key_log;
    s->key_log_user = desc->key_log_user;
    s->ml_kem_768 = desc->ml_kem_768;
    s->ml_kem_user = desc->ml_kem_user;
    return hsb__security_copy_ticket_key(s, desc->ticket_key, err) &&
           hsb__security_copy_alpn(s, desc->alpn, err) &&
           hsb__security_load_trust(s, desc, err) &&
           hsb__security_load_identities(s, desc, err) &&
           hsb__security_describe(s, err) && hsb__security_open_cache(s, desc, err);
}

static hsb_security *hsb__security_new(const hsb_security_desc *desc, hsb_error *err)
{
    hsb__memory memory = { desc->allocator, 0 };
    hsb_security *s = hsb__memory_zeroed(&memory, sizeof *s);
    if (!s) {
        hsb__error_memory(err);
        return NULL;
    }
    s->memory = memory;
    s->references = 1;
    if (hsb__security_load(s, desc, err))
        return s;
    hsb__security_destroy(s);
    return NULL;
}

/* Without a trust anchor BearSSL sends no CertificateRequest and lets everybody in.       */
static bool hsb__security_suits(const hsb_security *s, bool request, bool require,
                                hsb_error *err)
{
    if (!(request || require) || (s->trusted.count && s->authorities.bytes))
        return true;
    return hsb__error_set(err, HSB_ERR_CERT, 0, 0,
                          "client certificates are asked for, but trusted names nobody");
}

static const hsb__host *hsb__security_find_host(const hsb_security *s, const char *name)
{
    size_t low = 0, high = s->host_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(s->hosts[middle].name, name);
        if (order == 0)
            return &s->hosts[middle];
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return NULL;
}

/* The hosts that answer to a normalised name ("": none was sent), best first: the exact
   name, the wildcard over its first label (RFC 6125 6.4.3), the default.  Returns how
   many.                                                                                   */
static int hsb__security_hosts(const hsb_security *s, const char *name,
                               const hsb__host *out[3])
{
    char pattern[HSB__HOST_SIZE] = "*";
    const char *dot = strchr(name, '.');
    int count = 0;
    out[count] = hsb__security_find_host(s, name);
    count += out[count] != NULL;
    if (dot && dot > name) {
        memcpy(pattern + 1, dot, strlen(dot) + 1);
        out[count] = hsb__security_find_host(s, pattern);
        count += out[count] != NULL;
    }
    out[count++] = &s->fallback;
    return count;
}

/* The label ("CLIENT_RANDOM" in TLS 1.2), the client's random and the secret, in hex.     */
static void hsb__security_log_key(const hsb_security *s, const char *label,
                                  const unsigned char random[32], const unsigned char *secret,
                                  size_t len)
{
    char line[40 + 1 + 2 * 32 + 1 + 2 * br_sha512_SIZE + 1];
    if (!s->on_key_log || len > br_sha512_SIZE)
        return;
    char *at = line + snprintf(line, sizeof line, "%.40s ", label);
    for (size_t i = 0; i < 32; i++)
        at = hsb__text_print_hex(at, random[i], 'a');
    *at++ = ' ';
    for (size_t i = 0; i < len; i++)
        at = hsb__text_print_hex(at, secret[i], 'a');
    *at = '\0';
    s->on_key_log(line, s->key_log_user);
    hsb__memory_wipe(line, sizeof line);
}

/* ===== >>hello ===================================================================
   Purpose  reads a ClientHello before the engine gets it (RFC 5246 7.4.1.2).  Strict and
            bounded; reads nothing beyond the bytes given, and keeps nothing
   Uses     >>text
   Names    hsb__hello_*
   Tests    tests/unit/hello.c, tests/unit/tls13.c

   BearSSL asks whether a session resumes when it has read the session ID and nothing of what
   follows.  The answer depends on server name, ALPN and suites, so they are read here first.
   That is all the reader is for: a ClientHello that it refuses, or one that continues in a
   second record, costs a full handshake and is otherwise left to the engine, unless it has a
   fault that the engine does not look for.                                               */

enum {
    HSB__TLS13 = 0x0304,
    HSB__HELLO_MAX = 16384      /* bytes of the message, its header included               */
};

/* What may be wrong in a handshake.  BearSSL's own codes are all below 1024.              */
enum {
    HSB__TLS_ERR_MEMORY = 1024,
    HSB__TLS_ERR_FLOOD,
    HSB__TLS_ERR_PLAIN,
    HSB__TLS_ERR_LARGE,
    HSB__TLS_ERR_NOTHING_COMMON,
    HSB__TLS_ERR_SHARE,
    HSB__TLS_ERR_ILLEGAL,
    HSB__TLS_ERR_MISSING,
    HSB__TLS_ERR_ALPN,
    HSB__TLS_ERR_NO_CERTIFICATE,
    HSB__TLS_ERR_SIGN,
    HSB__TLS_ERR_BINDER,
    HSB__TLS_ERR_FALLBACK,
    HSB__TLS_ERR_VERSION,
    HSB__TLS_ERR_FOREIGN,
    HSB__TLS_ERR_PROTOCOLS,
    HSB__TLS_ERR_POINTS
};

/* Faults that BearSSL's engine lets pass.                                                 */
typedef enum hsb__hello_fault {
    HSB__HELLO_FINE,
    HSB__HELLO_PROTOCOLS,       /* RFC 7301 3.1: a list, or a name in it, that is empty    */
    HSB__HELLO_POINTS           /* RFC 8422 5.1.2: without uncompressed points             */
} hsb__hello_fault;

typedef struct hsb__hello {
    hsb_str  message;           /* all of it, its header included                          */
    hsb_str  fixed;             /* what comes before the extensions, without the header    */
    hsb_str  extensions;        /* each two bytes of type, then a vector                   */
    unsigned version;           /* the highest that the client speaks, up to TLS 1.2       */
    hsb_str  session_id;
    hsb_str  suites;            /* two bytes each                                          */
    hsb_str  compressions;      /* one byte each                                           */
    hsb_str  server_name;       /* absent: none                                            */
    hsb_str  protocols;         /* ALPN's list of names, a length before each; absent: none */
    hsb_str  versions;          /* two bytes each; absent: no such extension               */
    hsb_str  groups, signatures;        /* the same                                        */
    hsb_str  shares;            /* key_share: two bytes of group, then a vector            */
    hsb_str  psks;              /* identities: a vector, then four bytes of age            */
    hsb_str  binders;           /* a vector each                                           */
    size_t   binders_at;        /* where in message their list begins, its length included */
    unsigned record_limit;      /* RFC 8449 4; 0: no such extension                        */
    bool     illegal;           /* refused for a value that may not be there, not for its form */
    bool     early_data, has_psk_modes;
    bool     psk_dhe;           /* among these modes: PSK with a key exchange              */
    hsb__hello_fault fault;     /* where reading it ended                                  */
} hsb__hello;

/* rest is what is left of the message.  Each function reads from its front, or returns
   false.                                                                                  */
static bool hsb__hello_bytes(hsb_str *rest, size_t n, hsb_str *out)
{
    if (rest->len < n)
        return false;
    *out = hsb__text_make(rest->ptr, n);
    *rest = hsb__text_after(*rest, n);
    return true;
}

/* A big-endian number of 1 to 3 bytes.                                                    */
static bool hsb__hello_number(hsb_str *rest, size_t size, unsigned *out)
{
    hsb_str bytes;
    if (!hsb__hello_bytes(rest, size, &bytes))
        return false;
    *out = 0;
    for (size_t i = 0; i < size; i++)
        *out = *out << 8 | (unsigned char)bytes.ptr[i];
    return true;
}

/* A vector: its length in size bytes, then that many bytes.                               */
static bool hsb__hello_vector(hsb_str *rest, size_t size, hsb_str *out)
{
    unsigned len;
    return hsb__hello_number(rest, size, &len) && hsb__hello_bytes(rest, len, out);
}

/* RFC 6066 3: a list that holds exactly one host name (type 0).                           */
static bool hsb__hello_read_name(hsb__hello *h, hsb_str value)
{
    hsb_str list;
    unsigned type;
    if (h->server_name.ptr || !hsb__hello_vector(&value, 2, &list) || value.len)
        return false;
    return hsb__hello_number(&list, 1, &type) && type == 0 &&
           hsb__hello_vector(&list, 2, &h->server_name) && list.len == 0 && h->server_name.len;
}

/* RFC 7301 3.1: a list of names, each with a byte at least                                */
static bool hsb__hello_read_protocols(hsb__hello *h, hsb_str value)
{
    hsb_str list, name;
    if (!hsb__hello_vector(&value, 2, &h->protocols) || value.len || !h->protocols.len)
        return false;
    for (list = h->protocols; list.len;)
        if (!hsb__hello_vector(&list, 1, &name) || !name.len)
            return false;
    return true;
}

/* RFC 8422 5.1.2: a list of numbers, of which 0 stands for uncompressed points            */
static bool hsb__hello_read_points(hsb_str value)
{
    hsb_str list;
    return hsb__hello_vector(&value, 1, &list) && !value.len && list.len &&
           memchr(list.ptr, 0, list.len);
}

/* A list of two-byte numbers, of which there is at least one.                             */
static bool hsb__hello_read_list(hsb_str *list, size_t size, hsb_str value)
{
    return !list->ptr && hsb__hello_vector(&value, size, list) && !value.len && list->len &&
           list->len % 2 == 0;
}

/* RFC 8446 4.2.8: groups and shares, each whole; the list may be empty.                   */
static bool hsb__hello_read_shares(hsb__hello *h, hsb_str value)
{
    hsb_str rest, key;
    unsigned group;
    if (h->shares.ptr || !hsb__hello_vector(&value, 2, &h->shares) || value.len)
        return false;
    for (rest = h->shares; rest.len;)
        if (!hsb__hello_number(&rest, 2, &group) || !hsb__hello_vector(&rest, 2, &key) || !key.len)
            return false;
    return true;
}

static bool hsb__hello_read_record_limit(hsb__hello *h, hsb_str value)
{
    const bool first = !h->record_limit;
    if (!first || !hsb__hello_number(&value, 2, &h->record_limit) || value.len)
        return false;
    h->illegal = h->record_limit < 64;          /* RFC 8449 4                              */
    return !h->illegal;
}

static bool hsb__hello_read_early_data(hsb__hello *h, hsb_str value)
{
    const bool first = !h->early_data;
    h->early_data = true;
    return first && value.len == 0;
}

/* RFC 8446 4.2.9: psk_dhe_ke, the only mode of ours                                       */
static bool hsb__hello_read_psk_modes(hsb__hello *h, hsb_str value)
{
    hsb_str modes;
    if (h->has_psk_modes || !hsb__hello_vector(&value, 1, &modes) || value.len || !modes.len)
        return false;
    h->has_psk_modes = true;
    h->psk_dhe = memchr(modes.ptr, 1, modes.len) != NULL;
    return true;
}

/* RFC 8446 4.2.11: as many binders as identities, and nothing after them in the message.   */
static bool hsb__hello_read_psks(hsb__hello *h, hsb_str value)
{
    hsb_str rest, identity, age, binder, binders;
    h->illegal = value.ptr + value.len != h->message.ptr + h->message.len;
    if (h->psks.ptr || h->illegal || !hsb__hello_vector(&value, 2, &h->psks) || !h->psks.len)
        return false;
    h->binders_at = (size_t)(value.ptr - h->message.ptr);
    if (!hsb__hello_vector(&value, 2, &h->binders) || value.len)
        return false;
    binders = h->binders;
    for (rest = h->psks; rest.len;)
        if (!hsb__hello_vector(&rest, 2, &identity) || !identity.len ||
            !hsb__hello_bytes(&rest, 4, &age) || !hsb__hello_vector(&binders, 1, &binder) ||
            binder.len < 32)
            return false;
    return binders.len == 0;
}

static bool hsb__hello_read_extension(hsb__hello *h, unsigned type, hsb_str value)
{
    switch (type) {
    case 0:  return hsb__hello_read_name(h, value);
    case 10: return hsb__hello_read_list(&h->groups, 2, value);
    case 13: return hsb__hello_read_list(&h->signatures, 2, value);
    case 11:
        h->fault = hsb__hello_read_points(value) ? h->fault : HSB__HELLO_POINTS;
        return !h->fault;
    case 16:
        if (h->protocols.ptr)                   /* twice                                   */
            return false;
        h->fault = hsb__hello_read_protocols(h, value) ? h->fault : HSB__HELLO_PROTOCOLS;
        return !h->fault;
    case 28: return hsb__hello_read_record_limit(h, value);
    case 41: return hsb__hello_read_psks(h, value);
    case 42: return hsb__hello_read_early_data(h, value);
    case 43: return hsb__hello_read_list(&h->versions, 1, value);
    case 45: return hsb__hello_read_psk_modes(h, value);
    case 51: return hsb__hello_read_shares(h, value);
    default: return true;
    }
}

static bool hsb__hello_read_extensions(hsb__hello *h)
{
    hsb_str rest = h->extensions, value;
    unsigned type;
    while (rest.len)
        if (!hsb__hello_number(&rest, 2, &type) || !hsb__hello_vector(&rest, 2, &value) ||
            !hsb__hello_read_extension(h, type, value))
            return false;
    return true;
}

static bool hsb__hello_read_body(hsb__hello *h, hsb_str rest)
{
    const hsb_str body = rest;
    hsb_str random;
    if (!hsb__hello_number(&rest, 2, &h->version) || !hsb__hello_bytes(&rest, 32, &random) ||
        !hsb__hello_vector(&rest, 1, &h->session_id) || h->session_id.len > 32 ||
        !hsb__hello_vector(&rest, 2, &h->suites) || h->suites.len % 2 ||
        !hsb__hello_vector(&rest, 1, &h->compressions))
        return false;
    h->fixed = hsb__text_make(body.ptr, body.len - rest.len);
    if (rest.len == 0)
        return true;
    return hsb__hello_vector(&rest, 2, &h->extensions) && rest.len == 0 &&
           hsb__hello_read_extensions(h);
}

/* bytes: one whole message, its header included.                                          */
static bool hsb__hello_read(hsb__hello *out, const void *bytes, size_t len)
{
    hsb_str rest = hsb__text_make(bytes, len), body;
    unsigned type;
    memset(out, 0, sizeof *out);
    out->message = rest;
    return hsb__hello_number(&rest, 1, &type) && type == 1 &&
           hsb__hello_vector(&rest, 3, &body) && rest.len == 0 && hsb__hello_read_body(out, body);
}

/* The first of a list of two-byte numbers; 0: an empty list.                              */
static unsigned hsb__hello_first(hsb_str list)
{
    unsigned number = 0;
    hsb__hello_number(&list, 2, &number);
    return number;
}

static bool hsb__hello_has(hsb_str list, unsigned number)
{
    unsigned n;
    while (hsb__hello_number(&list, 2, &n))
        if (n == number)
            return true;
    return false;
}

static bool hsb__hello_has_protocol(const hsb__hello *h, const char *protocol)
{
    hsb_str list = h->protocols, name;
    while (list.len && hsb__hello_vector(&list, 1, &name))
        if (hsb__text_is(name, protocol))
            return true;
    return false;
}

/* ===== >>choice ==================================================================
   Purpose  what a handshake has to decide on our side: which identity is shown, which suite
            and hash, the signature, and which session fits.  Plain values in, answer out
   Uses     >>platform >>address >>key >>x509 >>security >>hello
   Names    hsb__choice_*, hsb__offer, hsb__digest
   Tests    tests/unit/choice.c, tests/unit/tls_choice.c                                   */

/* What a client offers, reduced to what we have.                                          */
typedef struct hsb__offer {
    uint16_t suites[BR_MAX_CIPHER_SUITES];      /* in the client's order                   */
    size_t   suite_count;
    uint32_t rsa_hashes, ec_hashes;     /* 1 << br_sha256_ID ...: to sign with             */
    uint32_t curves;                    /* 1 << BR_EC_secp256r1 ...                        */
} hsb__offer;

typedef struct hsb__choice {
    const hsb__identity *who;
    unsigned             suite, hash;   /* hash: br_sha256_ID ...                          */
} hsb__choice;

/* The curves for key exchange.  The engine has P-384 and P-521 too, and a client that offers
   only these would cost 14 and 27 times an X25519.                                       */
enum { HSB__CHOICE_CURVES = 1 << BR_EC_curve25519 | 1 << BR_EC_secp256r1 };

/* What the client's server_name says, normalised.  An address counts as no name, "": RFC 6066
   3 forbids it, and many clients send it.  false: it is invalid; then out is "" too.      */
static bool hsb__choice_read_name(hsb_str sent, char out[HSB__HOST_SIZE])
{
    char text[48];
    hsb_address address;
    if (hsb__host_normalise(out, sent))
        return true;
    if (sent.len >= sizeof text || memchr(sent.ptr, '\0', sent.len) ||
        memchr(sent.ptr, '%', sent.len))
        return false;
    memcpy(text, sent.ptr, sent.len);
    text[sent.len] = '\0';
    return hsb__address_parse(&address, text);
}

/* --- which certificate, which suite --------------------------------------------------- */

typedef struct hsb__digest {
    unsigned char        id, size;
    const br_hash_class *class;
    const unsigned char *oid;
} hsb__digest;

/* The best first: SHA-256 is the fastest, and every client has it.                       */
static const hsb__digest hsb__choice_digests[] = {
    { br_sha256_ID, 32, &br_sha256_vtable, BR_HASH_OID_SHA256 },
    { br_sha384_ID, 48, &br_sha384_vtable, BR_HASH_OID_SHA384 },
    { br_sha512_ID, 64, &br_sha512_vtable, BR_HASH_OID_SHA512 }
};

enum { HSB__CHOICE_DIGESTS = sizeof hsb__choice_digests / sizeof hsb__choice_digests[0] };

/* The best of those offered; 0: none in common.                                          */
static unsigned hsb__choice_hash(uint32_t offered)
{
    for (size_t i = 0; i < HSB__CHOICE_DIGESTS; i++)
        if (offered >> hsb__choice_digests[i].id & 1)
            return hsb__choice_digests[i].id;
    return 0;
}

static const hsb__digest *hsb__choice_digest(unsigned id)
{
    for (size_t i = 0; i < HSB__CHOICE_DIGESTS; i++)
        if (hsb__choice_digests[i].id == id)
            return &hsb__choice_digests[i];
    return NULL;
}

/* The hash to sign with for this identity; 0: none.  RFC 8422 5.1: the curve of an EC key
   has to be one of the client's.                                                          */
static unsigned hsb__choice_hash_for(const hsb__offer *offer, const hsb__identity *who)
{
    if (who->key.type == BR_KEYTYPE_RSA)
        return hsb__choice_hash(offer->rsa_hashes);
    return offer->curves >> who->key.ec.curve & 1 ? hsb__choice_hash(offer->ec_hashes) : 0;
}

/* A smaller rank is better.  Our order, but ChaCha20 first for a client that lists it
   first: its CPU has no AES.                                                             */
static size_t hsb__choice_rank(const hsb_security *s, unsigned suite, bool chacha20_first)
{
    size_t rank = 0;
    if (chacha20_first && hsb__suite_is_chacha20(suite))
        return 0;
    while (rank < s->suite_count && s->suites[rank] != suite)
        rank++;
    return rank + 1;
}

/* The best common suite for that kind of key; 0: none.                                    */
static unsigned hsb__choice_suite(const hsb_security *s, const hsb__offer *offer, int key_type)
{
    const bool chacha20_first = offer->suite_count && hsb__suite_is_chacha20(offer->suites[0]);
    size_t best = SIZE_MAX;
    unsigned suite = 0;
    for (size_t i = 0; i < offer->suite_count; i++) {
        const hsb__suite *known = hsb__suite_find(offer->suites[i]);
        size_t rank = hsb__choice_rank(s, offer->suites[i], chacha20_first);
        if (!known || known->key_type != key_type || rank >= best)
            continue;
        best = rank;
        suite = known->number;
    }
    return suite;
}

static bool hsb__choice_try(const hsb_security *s, const hsb__offer *offer,
                            const hsb__identity *who, hsb__choice *out)
{
    out->who = who;
    out->hash = who ? hsb__choice_hash_for(offer, who) : 0;
    out->suite = out->hash ? hsb__choice_suite(s, offer, who->key.type) : 0;
    return out->suite != 0;
}

/* For a normalised name ("": none was sent).  EC before RSA: its signature costs a fifth.
   false: nothing in common.                                                               */
static bool hsb__choice_make(const hsb_security *s, const char *name, const hsb__offer *offer,
                             hsb__choice *out)
{
    const hsb__host *hosts[3];
    if (!(offer->curves & HSB__CHOICE_CURVES))
        return false;
    int count = hsb__security_hosts(s, name, hosts);
    for (int i = 0; i < count; i++)
        if (hsb__choice_try(s, offer, hosts[i]->ec, out) ||
            hsb__choice_try(s, offer, hosts[i]->rsa, out))
            return true;
    return false;
}

/* --- the signature ---------------------------------------------------------------------- */
/* The public key of an identity with an RSA key.  It does not fail, as the certificate was read
   before.                                                                                 */
static bool hsb__choice_rsa_public(const hsb__identity *who, br_rsa_public_key *out)
{
    const br_x509_certificate *leaf = &who->chain.certs[0];
    hsb__x509 cert;
    br_x509_pkey key;
    if (!hsb__x509_walk(&cert, leaf->data, leaf->data_len) || hsb__x509_public_key(&cert, &key))
        return false;
    *out = key.key.rsa;
    return true;
}

/* An RSA signature is verified before it goes out: one that a fault in the computation made
   wrong would give the key away.                                                          */
static size_t hsb__choice_sign_rsa(const hsb__crypto *crypto, const hsb__identity *who,
                                   const hsb__digest *hash, const unsigned char *digest,
                                   unsigned char *out, size_t size)
{
    const size_t len = (who->key.rsa.n_bitlen + 7) / 8;
    unsigned char got[64];
    br_rsa_public_key key;
    if (len > size || !crypto->rsa_sign(hash->oid, digest, hash->size, &who->key.rsa, out) ||
        !hsb__choice_rsa_public(who, &key) ||
        !crypto->rsa_verify(out, len, hash->oid, hash->size, &key, got))
        return 0;
    return memcmp(digest, got, hash->size) == 0 ? len : 0;
}

static size_t hsb__choice_sign_ec(const hsb__crypto *crypto, const br_ec_private_key *key,
                                  const hsb__digest *hash, const unsigned char *digest,
                                  unsigned char *out, size_t size)
{
    const size_t longest = 139;         /* ASN.1 with two numbers of P-521                 */
    if (size < longest)
        return 0;
    return crypto->ecdsa_sign(crypto->ec, hash->class, digest, key, out);
}

/* data holds the digest, and then the signature.  Returns its length; 0: not signed.      */
static size_t hsb__choice_sign(const hsb__crypto *crypto, const hsb__identity *who,
                               unsigned hash, unsigned char *data, size_t digest_len,
                               size_t size)
{
    const hsb__digest *known = hsb__choice_digest(hash);
    unsigned char digest[64];
    if (!who || !known || digest_len != known->size)
        return 0;
    memcpy(digest, data, digest_len);
    return who->key.type == BR_KEYTYPE_RSA
               ? hsb__choice_sign_rsa(crypto, who, known, digest, data, size)
               : hsb__choice_sign_ec(crypto, &who->key.ec, known, digest, data, size);
}

/* RFC 8446 4.4.3: of a digest, with ECDSA or RSASSA-PSS.  Returns the length; 0: not signed. */
static size_t hsb__choice_sign13(const hsb__crypto *crypto, const hsb__identity *who,
                                 const br_hash_class *hash, const unsigned char *digest,
                                 unsigned char *out, size_t size)
{
    unsigned char salt[64];
    br_rsa_public_key key;
    if (who->key.type == BR_KEYTYPE_EC)
        return crypto->ecdsa_sign(crypto->ec, hash, digest, &who->key.ec, out);
    if ((who->key.rsa.n_bitlen + 7) / 8 > size || !hsb__os_entropy(salt, hsb__hash_len(hash)) ||
        !hsb__choice_rsa_public(who, &key))
        return 0;
    const size_t len = hsb__pss_sign(crypto->rsa_private, &who->key.rsa, hash, digest, salt, out);
    return len && hsb__pss_verify(crypto->rsa_public, &key, hash, digest, out, len) ? len : 0;
}

/* The name of a scheme of TLS 1.2, in which the curve says nothing of the hash.            */
static const char *hsb__choice_scheme_name(const hsb__identity *who, unsigned hash)
{
    static const char *const names[2][3] = {
        { "rsa_pkcs1_sha256", "rsa_pkcs1_sha384", "rsa_pkcs1_sha512" },
        { "ecdsa_sha256", "ecdsa_sha384", "ecdsa_sha512" }
    };
    const int size = hash == br_sha512_ID ? 2 : hash == br_sha384_ID ? 1 : 0;
    return who ? names[who->key.type == BR_KEYTYPE_EC][size] : "";
}

/* --- which session -----------------------------------------------------------------------
   The digest of all that has to be the same: the name asked for (RFC 6066 3), the protocol
   that ALPN agrees on, and whether and how a client certificate is asked for.             */
static void hsb__choice_binding(unsigned version, const char *name, size_t alpn, bool ask,
                                bool require, unsigned char out[32])
{
    const unsigned char setting[3] = { (unsigned char)version, (unsigned char)alpn,
                                       (unsigned char)(ask | require << 1) };
    br_sha256_context hash;
    br_sha256_init(&hash);
    br_sha256_update(&hash, name, strlen(name) + 1);
    br_sha256_update(&hash, setting, sizeof setting);
    br_sha256_out(&hash, out);
}

/* Counted as the engine does: 1 + the index of the first of our names that the client
   offers; 0: none.                                                                        */
static size_t hsb__choice_alpn(const hsb_security *s, const hsb__hello *hello)
{
    for (size_t i = 0; i < s->alpn_count; i++)
        if (hsb__hello_has_protocol(hello, s->alpn[i]))
            return i + 1;
    return 0;
}

/* ===== >>verify ==================================================================
   Purpose  what a client's chain of certificates is worth
   Uses     >>platform >>memory >>text >>error >>x509 >>trust >>chain >>crl >>security
   Names    hsb__verify_*, hsb__judge
   Tests    tests/unit/verify.c, tests/unit/tls_clients.c, tests/tls/forged.c

   The chain arrives as hsb__verify_start_chain, then start_cert, append (in pieces) and
   end_cert for each certificate, then end_chain, which judges.  A client without a
   certificate calls nothing of this.

   The judgement goes from what is cheap to what is costly, and stops at the first fault:
     1  Is the leaf, byte for byte, a pin?  Then only its dates are left to look at.
     2  Names and key identifiers must lead from the leaf to a CA in trusted, through
        certificates that the client sent, in any order.  They choose one path.
     3  Every certificate of the path is held against the rules of >>trust.
     4  Signatures, from the CA in trusted down.  So a stranger, who cannot make what that
        CA would have signed, costs us one signature.
     5  Revocation lists, if there are any, for every certificate of the path.

   What OpenSSL (X509_verify_cert for sslclient) accepts and is refused here, and why:
     names that differ in case, in spaces or in their type of string: names are compared by
       bytes, so that no two readers of a name can disagree about it
     a second path, if the first that names and identifiers allow is no good: one path is what
       bounds the cost.  A CA in trusted counts before one that was sent
     more than 5 certificates; signatures that cost more than 12 with P-256 would, lists
       counted: a client must not hold up the others.  Three with P-384 or two with P-521 do
     name constraints, even if they were kept; critical policy constraints, mappings and the
       like: nothing here enforces them
     keyUsage with keyAgreement and without digitalSignature: ECDHE needs a signature
     a certificate without basicConstraints as a CA, if it is self-signed: RFC 5280 6.1.4 (k)
     signatures with SHA-1 or SHA-224: too weak.  RSASSA-PSS in certificates, Ed25519, keys of
       other kinds, compressed points: BearSSL's X.509 knows none of them
     RSA keys below 2048 bits: too weak; above 4096 bits, or with an exponent beyond 32 bits:
       too slow
     a serial that is negative or longer than 20 bytes, extensions in version 1 or 2: RFC 5280
       4.1 forbids them
     a revocation list without nextUpdate, as it would be good for ever; for some certificates
       only, as it says nothing of the others; a second one of the same issuer, as nobody says
       which of them counts
     a fault in trusted or in a list of revoked ones, although this client's path does without
       it: it is told when it is loaded
     a pin that a list with the name of its issuer revokes: OpenSSL looks at no list for it
   What OpenSSL refuses and is accepted here: anyExtendedKeyUsage without clientAuth (RFC 5280
   4.2.1.12 lets it stand for all); a chain under the second of two CAs in trusted that have
   one name (OpenSSL tries one); a pin, or a CA in trusted, whose own issuer is not there
   (OpenSSL wants X509_V_FLAG_PARTIAL_CHAIN for that, and no list of its issuer).          */

enum {
    HSB__CHAIN_CERTS = 5,
    HSB__CHAIN_CERT = 16384,
    HSB__CHAIN_BYTES = 65536,
    HSB__CHAIN_COST = 12            /* of all signatures, as hsb__trust_cost counts         */
};

/* Of a client's chain, while it arrives and is judged; a block of the pool.              */
typedef struct hsb__judge {
    size_t        size;             /* of this block                                      */
    size_t        bytes;            /* of all certificates so far                         */
    hsb__leaf     sent[HSB__CHAIN_CERTS];
    hsb__x509     certs[HSB__CHAIN_CERTS];      /* what they say                          */
    br_x509_pkey  keys[HSB__CHAIN_CERTS];       /* by step in path                        */
    unsigned      count;            /* of certificates that arrived                       */
    unsigned      path_len;
    unsigned char path[HSB__CHAIN_CERTS];       /* their numbers, from 0: the leaf first  */
    unsigned      cost;             /* that is left to spend on signatures                */
} hsb__judge;

typedef struct hsb__verify {
    hsb__pool          *pool;
    const hsb_security *security;
    hsb__judge         *judge;
    hsb__leaf           leaf;       /* the client's own certificate                       */
    int64_t             until;      /* hsb__os_wall: it holds through this second         */
    bool                verified;   /* leaf: by end_chain(), or when its session began    */

    /* what was wrong with the chain */
    bool                out_of_memory;
    bool                failed_early;       /* failed_time is when it begins to be valid  */
    unsigned char       failed_at;          /* which certificate, from 1; 0: in trusted   */
    int                 failed_code;        /* of an hsb__fault                           */
    int64_t             failed_time;        /* the date that failed: an end, or a begin   */
} hsb__verify;

static void hsb__verify_forget_leaf(hsb__verify *v)
{
    hsb__leaf_drop(v->pool, &v->leaf);
    v->verified = false;
}

static void hsb__verify_forget_judge(hsb__verify *v)
{
    hsb__judge *j = v->judge;
    if (!j)
        return;
    for (unsigned i = 0; i < HSB__CHAIN_CERTS; i++)
        hsb__leaf_drop(v->pool, &j->sent[i]);
    hsb__pool_put(v->pool, j, j->size);
    v->judge = NULL;
}

/* Records a fault.  Only the first one counts; nothing is checked after it.               */
static void hsb__verify_fail(hsb__verify *v, int code, unsigned at)
{
    if (v->failed_code)
        return;
    v->failed_code = code;
    v->failed_at = (unsigned char)at;
}

/* --- the chain arrives ------------------------------------------------------------- */
static void hsb__verify_start_chain(hsb__verify *v)
{
    size_t size = sizeof *v->judge;
    hsb__verify_forget_leaf(v);
    hsb__verify_forget_judge(v);
    v->judge = hsb__pool_get(v->pool, &size);
    v->out_of_memory = !v->judge;
    if (!v->judge)
        return;
    memset(v->judge, 0, sizeof *v->judge);
    v->judge->size = size;
    v->judge->cost = HSB__CHAIN_COST;
}

static void hsb__verify_start_cert(hsb__verify *v, uint32_t length)
{
    hsb__judge *j = v->judge;
    if (!j || v->failed_code)
        return;
    j->bytes += length;
    if (length > HSB__CHAIN_CERT || j->bytes > HSB__CHAIN_BYTES ||
        j->count == HSB__CHAIN_CERTS) {
        hsb__verify_fail(v, BR_ERR_X509_LIMIT_EXCEEDED, j->count + 1);
        return;
    }
    hsb__leaf *cert = &j->sent[j->count];
    cert->size = length ? length : 1;
    cert->der = hsb__pool_get(v->pool, &cert->size);
    v->out_of_memory = !cert->der;
    if (v->out_of_memory)
        hsb__verify_fail(v, BR_ERR_X509_LIMIT_EXCEEDED, 1);
}

static void hsb__verify_append(hsb__verify *v, const unsigned char *bytes, size_t len)
{
    hsb__judge *j = v->judge;
    if (!j || v->failed_code)
        return;
    hsb__leaf *cert = &j->sent[j->count];
    if (len > cert->size - cert->len)
        return;
    memcpy(cert->der + cert->len, bytes, len);
    cert->len += len;
}

static void hsb__verify_end_cert(hsb__verify *v)
{
    hsb__judge *j = v->judge;
    if (!j || v->failed_code)
        return;
    const hsb__leaf *cert = &j->sent[j->count];
    if (!hsb__x509_walk(&j->certs[j->count], cert->der, cert->len))
        hsb__verify_fail(v, BR_ERR_X509_INVALID_VALUE, j->count + 1);
    else
        j->count++;
}

/* --- pins -------------------------------------------------------------------------- */
static bool hsb__verify_is_pinned(const hsb__verify *v)
{
    const hsb__anchors *trusted = &v->security->trusted;
    const hsb__leaf *leaf = &v->judge->sent[0];
    const hsb_str der = hsb__text_make((const char *)leaf->der, leaf->len);
    for (size_t i = 0; i < trusted->count; i++)
        if (!trusted->list[i].cert.is_ca && hsb__text_equal(trusted->list[i].der, der))
            return true;
    return false;
}

/* --- the path, by names ------------------------------------------------------------ */
static const hsb__x509 *hsb__verify_cert(const hsb__judge *j, unsigned step)
{
    return &j->certs[j->path[step]];
}

static bool hsb__verify_vouches(const hsb__anchor *a, const hsb__x509_signer *signer)
{
    return a->cert.is_ca && hsb__trust_is_signer(&a->cert, signer);
}

static bool hsb__verify_ends(const hsb__verify *v, const hsb__x509_signer *signer)
{
    const hsb__anchors *trusted = &v->security->trusted;
    for (size_t i = 0; i < trusted->count; i++)
        if (hsb__verify_vouches(&trusted->list[i], signer))
            return true;
    return false;
}

/* The first certificate sent that fits and is not in the path yet; count: none.          */
static unsigned hsb__verify_next(const hsb__judge *j, const hsb__x509_signer *signer,
                                 unsigned used)
{
    unsigned i = 1;
    while (i < j->count && (used >> i & 1 || !hsb__trust_is_signer(&j->certs[i], signer)))
        i++;
    return i;
}

static bool hsb__verify_find_path(const hsb__verify *v, hsb__judge *j)
{
    unsigned used = 1;
    for (j->path_len = 1; ; j->path_len++) {
        const hsb__x509_signer *signer = &hsb__verify_cert(j, j->path_len - 1)->issuer;
        if (hsb__verify_ends(v, signer))
            return true;
        unsigned next = hsb__verify_next(j, signer, used);
        if (next >= j->count)
            return false;
        used |= 1u << next;
        j->path[j->path_len] = (unsigned char)next;
    }
}

/* --- rules ------------------------------------------------------------------------- */

/* RFC 5280 4.2.1.9: a path length counts the CAs below that are not self-issued.         */
static bool hsb__verify_fits_path(const hsb__judge *j, const hsb__x509 *ca, unsigned step)
{
    uint32_t below = 0;
    for (unsigned i = 1; i < step; i++) {
        const hsb__x509 *cert = hsb__verify_cert(j, i);
        below += !hsb__text_equal(cert->subject, cert->issuer.name);
    }
    return below <= ca->path_len;
}

static int hsb__verify_check_dates(hsb__verify *v, const hsb__x509 *cert, int64_t now)
{
    if (cert->not_after - 1 < v->until)
        v->until = cert->not_after - 1;
    if (hsb__trust_is_current(cert, now))
        return 0;
    v->failed_early = now < cert->not_before;
    v->failed_time = v->failed_early ? cert->not_before : cert->not_after;
    return BR_ERR_X509_EXPIRED;
}

static int hsb__verify_check_step(hsb__verify *v, unsigned step, int64_t now)
{
    hsb__judge *j = v->judge;
    const hsb__x509 *cert = hsb__verify_cert(j, step);
    int fault = hsb__x509_public_key(cert, &j->keys[step]) ? BR_ERR_X509_WEAK_PUBLIC_KEY : 0;
    if (!fault)
        fault = step ? hsb__trust_check_issuer(cert) : hsb__trust_check_leaf(cert);
    if (!fault)
        fault = hsb__trust_check_algorithms(&cert->signed_part);
    if (!fault && !hsb__verify_fits_path(j, cert, step))
        fault = HSB__FAULT_PATH_LEN;
    return fault ? fault : hsb__verify_check_dates(v, cert, now);
}

static bool hsb__verify_check_steps(hsb__verify *v, int64_t now)
{
    for (unsigned i = 0; i < v->judge->path_len && !v->failed_code; i++) {
        int fault = hsb__verify_check_step(v, i, now);
        if (fault)
            hsb__verify_fail(v, fault, v->judge->path[i] + 1u);
    }
    return !v->failed_code;
}

/* --- signatures -------------------------------------------------------------------- */
static int hsb__verify_signature(hsb__judge *j, unsigned step, const br_x509_pkey *key)
{
    const hsb__x509_signed *s = &hsb__verify_cert(j, step)->signed_part;
    unsigned char digest[HSB__TRUST_DIGEST];
    const unsigned price = hsb__trust_cost(key);
    if (price > j->cost)
        return HSB__FAULT_COST;
    j->cost -= price;
    hsb__trust_hash(s, digest);
    return hsb__trust_verify(s, digest, key) ? 0 : BR_ERR_X509_BAD_SIGNATURE;
}

/* The CA in trusted that has signed the top of the path; NULL: none that may.  Several
   may have its name.  The fault to report is that of a CA that may not sign, if there is
   one; otherwise all signatures are wrong, and it is that of the top of the path.        */
static const hsb__anchor *hsb__verify_find_anchor(hsb__verify *v, int64_t now)
{
    const hsb__anchors *trusted = &v->security->trusted;
    hsb__judge *j = v->judge;
    const unsigned top = j->path_len - 1;
    int wrong_signature = 0, other = 0;
    for (size_t i = 0; i < trusted->count; i++) {
        const hsb__anchor *a = &trusted->list[i];
        const int64_t until = v->until;
        if (!hsb__verify_vouches(a, &hsb__verify_cert(j, top)->issuer))
            continue;
        int fault = !hsb__verify_fits_path(j, &a->cert, j->path_len)
                        ? HSB__FAULT_PATH_LEN : hsb__verify_check_dates(v, &a->cert, now);
        int signature = fault ? 0 : hsb__verify_signature(j, top, &a->key);
        if (!fault && !signature)
            return a;
        v->until = until;
        *(fault ? &other : &wrong_signature) = fault ? fault : signature;
    }
    if (other)
        hsb__verify_fail(v, other, 0);
    else
        hsb__verify_fail(v, wrong_signature, j->path[top] + 1u);
    return NULL;
}

static bool hsb__verify_check_signatures(hsb__verify *v)
{
    hsb__judge *j = v->judge;
    for (unsigned i = j->path_len - 1; i-- > 0 && !v->failed_code;) {
        int fault = hsb__verify_signature(j, i, &j->keys[i + 1]);
        if (fault)
            hsb__verify_fail(v, fault, j->path[i] + 1u);
    }
    return !v->failed_code;
}

/* --- revocation -------------------------------------------------------------------- */
static void hsb__verify_fail_list(hsb__verify *v, int fault, unsigned at, int64_t end)
{
    v->failed_time = end;
    hsb__verify_fail(v, fault, at);
}

static bool hsb__verify_check_lists(hsb__verify *v, const hsb__anchor *anchor, int64_t now)
{
    const hsb__crls *lists = &v->security->revoked;
    hsb__judge *j = v->judge;
    int64_t end = INT64_MAX;
    int fault = 0;
    for (unsigned i = j->path_len; lists->count && i-- > 0 && !fault;) {
        const bool last = i + 1 == j->path_len;
        const hsb__x509 *ca = last ? &anchor->cert : hsb__verify_cert(j, i + 1);
        const br_x509_pkey *key = last ? &anchor->key : &j->keys[i + 1];
        fault = hsb__crls_check(lists, hsb__verify_cert(j, i)->serial, ca, key, now, &j->cost,
                                &end);
        if (fault)
            hsb__verify_fail_list(v, fault, j->path[i] + 1u, end);
    }
    if (!fault)
        fault = hsb__crls_check_trusted(lists, &anchor->cert, now, &end);
    if (fault)
        hsb__verify_fail_list(v, fault, 0, end);
    if (end - 1 < v->until)
        v->until = end - 1;
    return !fault;
}

/* --- the judgement ----------------------------------------------------------------- */
static void hsb__verify_judge_pin(hsb__verify *v, int64_t now)
{
    hsb__judge *j = v->judge;
    int64_t end = INT64_MAX;
    int fault = hsb__x509_public_key(&j->certs[0], &j->keys[0])
                    ? BR_ERR_X509_WEAK_PUBLIC_KEY
                    : hsb__verify_check_dates(v, &j->certs[0], now);
    if (fault) {
        hsb__verify_fail(v, fault, 1);
        return;
    }
    fault = hsb__crls_check_trusted(&v->security->revoked, &j->certs[0], now, &end);
    if (fault)
        hsb__verify_fail_list(v, fault, 1, end);
    if (end - 1 < v->until)
        v->until = end - 1;
}

static void hsb__verify_judge_path(hsb__verify *v, int64_t now)
{
    const hsb__anchor *anchor = NULL;
    if (!hsb__verify_find_path(v, v->judge))
        hsb__verify_fail(v, BR_ERR_X509_NOT_TRUSTED, 1);
    else if (hsb__verify_check_steps(v, now))
        anchor = hsb__verify_find_anchor(v, now);
    if (anchor && hsb__verify_check_signatures(v))
        hsb__verify_check_lists(v, anchor, now);
}

/* 0, or the fault's code.  The judge stays for hsb__verify_key, until the handshake ends.  */
static unsigned hsb__verify_end_chain(hsb__verify *v)
{
    hsb__judge *j = v->judge;
    const int64_t now = hsb__os_wall();
    if (!j)
        return BR_ERR_X509_LIMIT_EXCEEDED;
    if (!j->count)
        hsb__verify_fail(v, BR_ERR_X509_EMPTY_CHAIN, 1);
    v->until = INT64_MAX;
    if (!v->failed_code && hsb__verify_is_pinned(v))
        hsb__verify_judge_pin(v, now);
    else if (!v->failed_code)
        hsb__verify_judge_path(v, now);
    v->verified = !v->failed_code;
    if (v->verified) {
        v->leaf = j->sent[0];
        memset(&j->sent[0], 0, sizeof j->sent[0]);
    }
    return (unsigned)v->failed_code;
}

static const br_x509_pkey *hsb__verify_key(const hsb__verify *v)
{
    return v->judge && v->verified ? &v->judge->keys[0] : NULL;
}

/* Until when (hsb__os_wall) the verified client may be believed: nothing is resumed past the
   first end of a certificate of its path, or of a revocation list that was asked.         */
static int64_t hsb__verify_until(const hsb__verify *v)
{
    return v->verified ? v->until : INT64_MAX;
}

static void hsb__verify_end(hsb__verify *v)
{
    hsb__verify_forget_judge(v);
    hsb__verify_forget_leaf(v);
}

/* "client certificate: expired on 2026-01-02"                                           */
static void hsb__verify_error(const hsb__verify *v, int code, hsb_error *out)
{
    const hsb__date date = hsb__date_split(v->failed_time);
    const char *text = hsb__trust_fault(code)->text;
    char who[48] = "client certificate", when[24] = "";
    if (v->failed_at > 1)
        snprintf(who, sizeof who, "client certificate, number %d of its chain",
                 v->failed_at);
    else if (v->failed_at == 0)
        snprintf(who, sizeof who, "client certificate, its issuer in trusted");
    if (code == BR_ERR_X509_EXPIRED)
        text = v->failed_early ? "not valid before" : "expired on";
    if (code == BR_ERR_X509_EXPIRED || code == HSB__FAULT_LIST_OLD)
        snprintf(when, sizeof when, "%s %04d-%02d-%02d", code == HSB__FAULT_LIST_OLD ? " on" : "",
                 (int)date.year, date.month, date.day);
    hsb__error_set(out, HSB_ERR_TLS, 0, code, "%s: %s%s", who, text, when);
}

/* ===== >>secrets =================================================================
   Purpose  the key schedule of TLS 1.3 (RFC 8446 7.1): transcript, HKDF, stages
   Uses     >>memory >>key
   Names    hsb__transcript_*, hsb__secret_*
   Tests    tests/unit/secrets.c, tests/unit/tls13.c, tests/unit/vectors.c, tests/unit/timing.c,
            tests/unit/wipes.c

   HKDF (RFC 5869) over BearSSL's HMAC.  Nothing here is longer than one hash, so Expand is a
   single HMAC of its info and the byte 1.                                                */

enum { HSB__HASH_MAX = 48 };            /* SHA-384, the longest hash of a suite of ours   */

/* The running hash of the handshake's messages.  It does not point into itself, so a copy is
   a transcript of its own.                                                               */
typedef union hsb__transcript {
    const br_hash_class *class;
    br_sha256_context    sha256;
    br_sha384_context    sha384;
} hsb__transcript;

static void hsb__transcript_start(hsb__transcript *t, const br_hash_class *hash)
{
    hash->init(&t->class);
}

static void hsb__transcript_add(hsb__transcript *t, const void *bytes, size_t len)
{
    t->class->update(&t->class, bytes, len);
}

/* The hash of all messages so far; the transcript goes on.                               */
static void hsb__transcript_hash(const hsb__transcript *t, unsigned char out[HSB__HASH_MAX])
{
    t->class->out(&t->class, out);
}

/* RFC 8446 4.4.1: after a HelloRetryRequest, the hash of the first ClientHello stands for it. */
static void hsb__transcript_restart(hsb__transcript *t)
{
    const br_hash_class *hash = t->class;
    unsigned char message[4 + HSB__HASH_MAX] = { 254, 0, 0, (unsigned char)hsb__hash_len(hash) };
    hsb__transcript_hash(t, message + 4);
    hsb__transcript_start(t, hash);
    hsb__transcript_add(t, message, 4 + hsb__hash_len(hash));
}

/* RFC 5869 2.2; a salt of no bytes is the same as one hash of zeros.                     */
static void hsb__secret_extract(const br_hash_class *hash, const void *salt, size_t salt_len,
                                const void *key, size_t key_len, unsigned char out[HSB__HASH_MAX])
{
    br_hmac_key_context hmac_key;
    br_hmac_context hmac;
    br_hmac_key_init(&hmac_key, hash, salt, salt_len);
    br_hmac_init(&hmac, &hmac_key, 0);
    br_hmac_update(&hmac, key, key_len);
    br_hmac_out(&hmac, out);
    hsb__memory_wipe(&hmac, sizeof hmac);
    hsb__memory_wipe(&hmac_key, sizeof hmac_key);
}

/* RFC 8446 7.1: HKDF-Expand-Label.  label comes without "tls13 "; out_len is one hash at most. */
static void hsb__secret_expand(const br_hash_class *hash, const unsigned char *secret,
                               const char *label, const void *context, size_t context_len,
                               unsigned char *out, size_t out_len)
{
    static const unsigned char one = 1;
    const size_t label_len = strlen(label);
    const unsigned char head[3] = { 0, (unsigned char)out_len, (unsigned char)(6 + label_len) };
    const unsigned char length = (unsigned char)context_len;
    unsigned char block[HSB__HASH_MAX];
    br_hmac_key_context hmac_key;
    br_hmac_context hmac;
    HSB_ASSERT(out_len <= hsb__hash_len(hash));
    br_hmac_key_init(&hmac_key, hash, secret, hsb__hash_len(hash));
    br_hmac_init(&hmac, &hmac_key, 0);
    br_hmac_update(&hmac, head, sizeof head);
    br_hmac_update(&hmac, "tls13 ", 6);
    br_hmac_update(&hmac, label, label_len);
    br_hmac_update(&hmac, &length, 1);
    br_hmac_update(&hmac, context, context_len);
    br_hmac_update(&hmac, &one, 1);
    br_hmac_out(&hmac, block);
    memcpy(out, block, out_len);
    hsb__memory_wipe(&hmac, sizeof hmac);
    hsb__memory_wipe(&hmac_key, sizeof hmac_key);
    hsb__memory_wipe(block, sizeof block);
}

/* Derive-Secret with the hash of the messages so far.  out may be secret.                */
static void hsb__secret_derive(const hsb__transcript *t, const unsigned char *secret,
                               const char *label, unsigned char out[HSB__HASH_MAX])
{
    unsigned char messages[HSB__HASH_MAX];
    const size_t len = hsb__hash_len(t->class);
    hsb__transcript_hash(t, messages);
    hsb__secret_expand(t->class, secret, label, messages, len, out, len);
}

/* From one stage to the next: Extract with Derive-Secret(secret, "derived", "") as the salt.
   key of no bytes stands for one hash of zeros.  out may be secret.                      */
static void hsb__secret_next_stage(const br_hash_class *hash, const unsigned char *secret,
                                   const void *key, size_t key_len,
                                   unsigned char out[HSB__HASH_MAX])
{
    static const unsigned char zeros[HSB__HASH_MAX];
    const size_t len = hsb__hash_len(hash);
    unsigned char salt[HSB__HASH_MAX];
    hsb__transcript nothing;
    hsb__transcript_start(&nothing, hash);
    hsb__secret_derive(&nothing, secret, "derived", salt);
    hsb__secret_extract(hash, salt, len, key_len ? key : zeros, key_len ? key_len : len, out);
    hsb__memory_wipe(salt, sizeof salt);
}

/* The first stage: Early Secret, of a pre-shared key or of none (key_len 0).             */
static void hsb__secret_first_stage(const br_hash_class *hash, const void *key, size_t key_len,
                                    unsigned char out[HSB__HASH_MAX])
{
    static const unsigned char zeros[HSB__HASH_MAX];
    hsb__secret_extract(hash, NULL, 0, key_len ? key : zeros,
                        key_len ? key_len : hsb__hash_len(hash), out);
}

/* RFC 8446 4.4.4: the MAC of Finished and of a binder, over the hash of messages.        */
static void hsb__secret_finished(const br_hash_class *hash, const unsigned char *secret,
                                 const unsigned char *messages, unsigned char out[HSB__HASH_MAX])
{
    const size_t len = hsb__hash_len(hash);
    unsigned char key[HSB__HASH_MAX];
    hsb__secret_expand(hash, secret, "finished", NULL, 0, key, len);
    hsb__secret_extract(hash, key, len, messages, len, out);    /* HMAC(key, messages)    */
    hsb__memory_wipe(key, sizeof key);
}

/* ===== >>record ==================================================================
   Purpose  the record layer of TLS 1.3 (RFC 8446 5) and, after its handshake, of TLS 1.2
            (RFC 5246 6): frames in place, protection, limits
   Uses     >>memory >>text >>buffer >>key >>security >>hello >>secrets
   Names    hsb__record_*, hsb__keys_*, hsb__frame
   Tests    tests/unit/tls13.c, tests/unit/tls.c, tests/unit/tls_memory.c,
            tests/unit/tls_alerts.c, tests/unit/vectors.c, tests/unit/timing.c, tests/unit/wipes.c

   Sending.  Records are made where they are sent from: r->out holds records that are closed,
   out[sent..made), and after them the one that is open for plaintext.  Nothing is copied.
   Receiving.  A record that lies whole in the caller's bytes is decrypted there; only the
   beginning of one is copied, to r->part, and decrypted there once it is whole.
   An idle connection holds no block of either.                                          */

enum {
    HSB__RECORD_CCS = 20, HSB__RECORD_ALERT = 21, HSB__RECORD_HANDSHAKE = 22,
    HSB__RECORD_DATA = 23,
    HSB__RECORD_HEADER = 5,
    HSB__RECORD_TAG = 16,               /* of every AEAD of TLS 1.3                      */
    HSB__RECORD_OVERHEAD = HSB__RECORD_HEADER + 1 + HSB__RECORD_TAG,    /* of its records */
    HSB__RECORD_MOST = 16384,           /* bytes of plaintext in a record                */
    HSB__RECORD_OUT = 65536,            /* a block for records to send                   */
    HSB__RECORD_LEAST = 4096,           /* room for a record that is worth making        */
    HSB__RECORD_SPARE = 256,            /* of r->out, for an alert or a KeyUpdate        */
    HSB__RECORD_CLASSED = 128           /* with less space BearSSL's max_plaintext wraps */
};

/* RFC 8446 B.4                                                                          */
typedef struct hsb__suite13 {
    unsigned             number;
    const char          *name;
    const br_hash_class *hash;
    size_t               key_len;
    bool                 is_chacha20;
} hsb__suite13;

static const hsb__suite13 hsb__suites13[] = {
    { 0x1301, "TLS_AES_128_GCM_SHA256",       &br_sha256_vtable, 16, false },
    { 0x1302, "TLS_AES_256_GCM_SHA384",       &br_sha384_vtable, 32, false },
    { 0x1303, "TLS_CHACHA20_POLY1305_SHA256", &br_sha256_vtable, 32, true }
};

/* One direction of TLS 1.3.  seq counts the records under this key.                     */
typedef struct hsb__keys {
    unsigned char secret[HSB__HASH_MAX];    /* the traffic secret, for the next update   */
    unsigned char key[32], iv[12];
    uint64_t      seq;
} hsb__keys;

/* The two directions of TLS 1.2, as BearSSL's engine left them: objects of its record
   classes.                                                                              */
typedef struct hsb__classes {
    const br_sslrec_in_class  **in;
    const br_sslrec_out_class **out;
    void                       *block;  /* where they are, or NULL: in the record itself */
    size_t                      size;   /* of that block                                 */
} hsb__classes;

/* Room for what either version needs: AES-GCM's two objects fit, CBC's get a block.     */
typedef union hsb__secrets {
    struct { hsb__keys in, out; } keys;
    unsigned char classes[640];
} hsb__secrets;

typedef enum hsb__protection {
    HSB__CLEAR,
    HSB__BY_KEYS,                /* TLS 1.3, by keys                                      */
    HSB__BY_CLASSES                /* TLS 1.2, by classes                                   */
} hsb__protection;

typedef struct hsb__record {
    hsb__memory       *memory;
    hsb__pool         *pool;
    const hsb__crypto *crypto;
    const hsb__suite13  *suite;           /* of TLS 1.3; set before keys are               */
    hsb__secrets       secrets;
    hsb__classes       classes;
    unsigned char     *out;             /* NULL: nothing to send, and no record open     */
    size_t             out_size;
    size_t             sent, made;
    size_t             open;            /* bytes of plaintext in the open record         */
    size_t             limit;           /* for them: HSB__RECORD_MOST, or the client's   */
    hsb__buffer        part;            /* a record that is not whole, or was decrypted  */
    unsigned char      open_type;       /* of the open record                            */
    unsigned char      protect_in, protect_out;    /* hsb__protection                    */
} hsb__record;

/* What a record held.  data: good until the next call of hsb__record_take.              */
typedef struct hsb__frame {
    unsigned       type;                /* 0: no record is whole                         */
    bool           clear;               /* it was not protected                          */
    size_t         size;                /* of the record's payload, as it came           */
    unsigned char *data;
    size_t         len;
} hsb__frame;

static void hsb__record_open(hsb__record *r, hsb__memory *m, hsb__pool *pool,
                             const hsb__crypto *crypto)
{
    memset(r, 0, sizeof *r);
    r->memory = m;
    r->pool = r->part.pool = pool;
    r->crypto = crypto;
    r->limit = HSB__RECORD_MOST;
}

static void hsb__record_release_out(hsb__record *r)
{
    hsb__pool_put(r->pool, r->out, r->out_size);
    r->out = NULL;
    r->sent = r->made = r->open = 0;
}

static void hsb__record_close(hsb__record *r)
{
    hsb__record_release_out(r);
    hsb__buffer_release(&r->part);
    if (r->classes.block)
        hsb__memory_wipe(r->classes.block, r->classes.size);
    hsb__pool_put(r->pool, r->classes.block, r->classes.size);
    hsb__memory_wipe(r, sizeof *r);
}

/* --- protection of TLS 1.3 -------------------------------------------------------------- */

/* RFC 8446 7.3: key and IV of a traffic secret, which is in k->secret.                  */
static void hsb__keys_derive(hsb__keys *k, const hsb__suite13 *suite)
{
    hsb__secret_expand(suite->hash, k->secret, "key", NULL, 0, k->key, suite->key_len);
    hsb__secret_expand(suite->hash, k->secret, "iv", NULL, 0, k->iv, sizeof k->iv);
    k->seq = 0;
}

/* RFC 8446 7.2                                                                          */
static void hsb__keys_update(hsb__keys *k, const hsb__suite13 *suite)
{
    hsb__secret_expand(suite->hash, k->secret, "traffic upd", NULL, 0, k->secret,
                       hsb__hash_len(suite->hash));
    hsb__keys_derive(k, suite);
}

/* RFC 8446 5.3.  The AES and GHASH keys are expanded for each record: with instructions of
   the CPU that costs 0.05 us, and otherwise little beside the record.                   */
static void hsb__keys_run(const hsb__record *r, const hsb__keys *k, bool encrypt,
                          const unsigned char *header, unsigned char *data, size_t len,
                          unsigned char tag[HSB__RECORD_TAG])
{
    const hsb__crypto *c = r->crypto;
    unsigned char nonce[12];
    memcpy(nonce, k->iv, sizeof nonce);
    for (unsigned i = 0; i < 8; i++)
        nonce[11 - i] ^= (unsigned char)(k->seq >> (8 * i));
    if (r->suite->is_chacha20) {
        c->poly1305(k->key, nonce, data, len, header, HSB__RECORD_HEADER, tag, c->chacha20,
                    encrypt);
        return;
    }
    br_aes_gen_ctr_keys aes;
    br_gcm_context gcm;
    c->ctr->init(&aes.vtable, k->key, r->suite->key_len);
    br_gcm_init(&gcm, &aes.vtable, c->ghash);
    br_gcm_reset(&gcm, nonce, sizeof nonce);
    br_gcm_aad_inject(&gcm, header, HSB__RECORD_HEADER);
    br_gcm_flip(&gcm);
    br_gcm_run(&gcm, encrypt, data, len);
    br_gcm_get_tag(&gcm, tag);
    hsb__memory_wipe(&aes, sizeof aes);
    hsb__memory_wipe(&gcm, sizeof gcm);
}

/* --- sending -------------------------------------------------------------------------- */
static void hsb__record_header(unsigned char *at, unsigned type, size_t len)
{
    at[0] = (unsigned char)type;
    at[1] = at[2] = 3;                  /* both versions say 1.2 (RFC 8446 5.1)          */
    at[3] = (unsigned char)(len >> 8);
    at[4] = (unsigned char)len;
}

/* Where the plaintext of the next record begins in r->out, and how much of it there may be. */
static size_t hsb__record_space(const hsb__record *r, size_t spare, size_t *begin)
{
    size_t from = r->made + HSB__RECORD_HEADER, to = r->out_size - spare;
    *begin = from;
    if (from >= to || (r->protect_out == HSB__BY_CLASSES && to - from < HSB__RECORD_CLASSED))
        return 0;
    if (r->protect_out == HSB__BY_CLASSES) {
        (*r->classes.out)->max_plaintext(r->classes.out, &from, &to);
        *begin = from;
        to = to > from ? to : from;
    } else if (r->protect_out == HSB__BY_KEYS) {
        to = to - from > 1 + HSB__RECORD_TAG ? to - 1 - HSB__RECORD_TAG : from;
    }
    return to - from < r->limit ? to - from : r->limit;
}

/* Ends the open record: header, protection.                                             */
static void hsb__record_protect(hsb__record *r)
{
    size_t begin, len = r->open;
    hsb__record_space(r, 0, &begin);
    unsigned char *at = r->out + r->made, *data = r->out + begin;
    if (r->protect_out == HSB__BY_CLASSES) {
        (*r->classes.out)->encrypt(r->classes.out, r->open_type, BR_TLS12, data, &len);
        r->made += len;
    } else if (r->protect_out == HSB__BY_KEYS) {
        data[len++] = r->open_type;
        hsb__record_header(at, HSB__RECORD_DATA, len + HSB__RECORD_TAG);
        hsb__keys_run(r, &r->secrets.keys.out, true, at, data, len, data + len);
        r->secrets.keys.out.seq++;
        r->made += HSB__RECORD_HEADER + len + HSB__RECORD_TAG;
    } else {
        hsb__record_header(at, r->open_type, len);
        r->made += HSB__RECORD_HEADER + len;
    }
    r->open = 0;
}

/* A block to make records in; false: no memory.                                         */
static bool hsb__record_get_out(hsb__record *r, size_t size)
{
    if (r->out)
        return true;
    r->out_size = size;
    r->out = hsb__pool_get(r->pool, &r->out_size);
    return r->out != NULL;
}

/* Where plaintext of that type may be written, after what the open record has; NULL:
   something must be sent first, or no memory.                                           */
static unsigned char *hsb__record_place(hsb__record *r, unsigned type, size_t spare, size_t *len)
{
    size_t begin;
    if (!hsb__record_get_out(r, HSB__RECORD_OUT))
        return NULL;
    if (r->open && r->open_type != type)
        hsb__record_protect(r);
    size_t most = hsb__record_space(r, spare, &begin);
    if (r->open && r->open == most) {
        hsb__record_protect(r);
        most = hsb__record_space(r, spare, &begin);
    }
    r->open_type = (unsigned char)type;
    *len = most - r->open;
    return *len ? r->out + begin + r->open : NULL;
}

static char *hsb__record_writable(hsb__record *r, size_t *len)
{
    unsigned char *at = hsb__record_place(r, HSB__RECORD_DATA, HSB__RECORD_SPARE, len);
    if (at && r->open == 0 && *len < HSB__RECORD_LEAST && *len < r->limit)
        at = NULL;
    if (!at)
        *len = 0;
    return (char *)at;
}

static void hsb__record_written(hsb__record *r, size_t n)
{
    r->open += n;
}

static void hsb__record_flush(hsb__record *r)
{
    if (r->open)
        hsb__record_protect(r);
}

/* Copies all of a message into records of that type; the last one stays open.  False: no
   room, which the caller has to avoid, or no memory.                                     */
static bool hsb__record_put(hsb__record *r, unsigned type, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    while (len) {
        size_t n;
        unsigned char *at = hsb__record_place(r, type, 0, &n);
        if (!at)
            return false;
        n = n < len ? n : len;
        memcpy(at, from, n);
        r->open += n;
        from += n;
        len -= n;
    }
    return true;
}

static bool hsb__record_alert(hsb__record *r, unsigned level, unsigned alert)
{
    const unsigned char message[2] = { (unsigned char)level, (unsigned char)alert };
    hsb__record_flush(r);
    if (!hsb__record_put(r, HSB__RECORD_ALERT, message, sizeof message))
        return false;
    hsb__record_flush(r);
    return true;
}

static hsb_str hsb__record_closed(const hsb__record *r)
{
    return hsb__text_make(r->out ? (const char *)r->out + r->sent : NULL, r->made - r->sent);
}

/* n bytes of hsb__record_closed were sent.                                              */
static void hsb__record_sent(hsb__record *r, size_t n)
{
    r->sent += n;
    if (r->sent == r->made && !r->open)
        r->sent = r->made = 0;
}

/* --- receiving ------------------------------------------------------------------------ */

/* The bytes after the header, judged by the header alone: 0, or BR_ERR_*.               */
static int hsb__record_judge(const hsb__record *r, const unsigned char *header, size_t *len)
{
    const unsigned version = (unsigned)header[1] << 8 | header[2];
    *len = (size_t)header[3] << 8 | header[4];
    if (header[0] < HSB__RECORD_CCS || header[0] > HSB__RECORD_DATA)
        return BR_ERR_UNKNOWN_TYPE;
    if (r->protect_in == HSB__BY_CLASSES) {
        if (version != BR_TLS12)
            return BR_ERR_BAD_VERSION;
        return (*r->classes.in)->check_length(r->classes.in, *len) ? 0 : BR_ERR_BAD_LENGTH;
    }
    if (version >> 8 != 3)
        return BR_ERR_BAD_VERSION;
    /* Early data that comes after a HelloRetryRequest is protected, though we have no keys.  */
    const bool is_sealed = r->protect_in == HSB__BY_KEYS || header[0] == HSB__RECORD_DATA;
    const size_t most = HSB__RECORD_MOST + (is_sealed ? 256 : 0);
    return *len <= most ? 0 : BR_ERR_BAD_LENGTH;
}

/* RFC 8446 5.2, 5.4: what was protected, without its padding.                           */
static int hsb__record_unprotect(hsb__record *r, unsigned char *header, hsb__frame *f)
{
    unsigned char tag[HSB__RECORD_TAG];
    if (f->len < 1 + HSB__RECORD_TAG)
        return BR_ERR_BAD_MAC;
    f->len -= HSB__RECORD_TAG;
    hsb__keys_run(r, &r->secrets.keys.in, false, header, f->data, f->len, tag);
    if (!hsb__memory_same(tag, f->data + f->len, sizeof tag))
        return BR_ERR_BAD_MAC;
    r->secrets.keys.in.seq++;
    if (f->len > HSB__RECORD_MOST + 1)
        return BR_ERR_BAD_LENGTH;
    while (f->len && HSB__PUBLIC(f->data[f->len - 1]) == 0)
        f->len--;                       /* how much padding shows: RFC 8446 E.3          */
    if (!f->len)
        return BR_ERR_UNEXPECTED;       /* no type at all                                */
    f->type = f->data[--f->len];
    return 0;
}

/* A whole record, where it lies.  In TLS 1.3 ChangeCipherSpec stays in the clear (RFC 8446 5),
   and so may an alert of a client that has no keys yet: the caller decides.             */
static int hsb__record_decrypt(hsb__record *r, unsigned char *bytes, size_t len, hsb__frame *f)
{
    f->type = bytes[0];
    f->data = bytes + HSB__RECORD_HEADER;
    f->len = f->size = len;
    f->clear = r->protect_in == HSB__CLEAR ||
               (r->protect_in == HSB__BY_KEYS && f->type != HSB__RECORD_DATA);
    /* AES-CBC: 0.6 takes records of any length, and decrypts by whole blocks, up to 15 bytes
       behind one that does not end with a block.  RFC 5246 7.2.2: that is a bad MAC.    */
    if (r->protect_in == HSB__BY_CLASSES && *r->classes.in == &br_sslrec_in_cbc_vtable.inner &&
        len % br_aes_big_BLOCK_SIZE)
        return BR_ERR_BAD_MAC;
    if (r->protect_in == HSB__BY_CLASSES) {
        f->data = (*r->classes.in)->decrypt(r->classes.in, (int)f->type, BR_TLS12, f->data,
                                            &f->len);
        return f->data ? 0 : BR_ERR_BAD_MAC;
    }
    if (!f->clear)
        return hsb__record_unprotect(r, bytes, f);
    return 0;
}

/* Copies bytes to r->part until it has `wanted`.  Returns how many it copied; SIZE_MAX:
   no memory.                                                                            */
static size_t hsb__record_collect(hsb__record *r, const unsigned char *bytes, size_t len,
                                  size_t wanted)
{
    const size_t have = hsb__buffer_len(&r->part);
    if (have >= wanted)
        return 0;
    const size_t n = len < wanted - have ? len : wanted - have;
    char *at = hsb__buffer_reserve(&r->part, wanted - have);
    if (!at)
        return SIZE_MAX;
    memcpy(at, bytes, n);
    hsb__buffer_added(&r->part, n);
    return n;
}

/* The next record of the bytes; *used of them belong to it or were kept.  0, with f->type 0
   where it is not whole yet; or BR_ERR_*, which ends the connection, or HSB__TLS_ERR_MEMORY.
   bytes are overwritten.                                                                */
static int hsb__record_take(hsb__record *r, unsigned char *bytes, size_t len, size_t *used,
                            hsb__frame *f)
{
    size_t size, n;
    memset(f, 0, sizeof *f);
    *used = 0;
    if (hsb__buffer_len(&r->part) == 0 && len >= HSB__RECORD_HEADER) {
        int error = hsb__record_judge(r, bytes, &size);
        if (error)
            return error;
        if (len - HSB__RECORD_HEADER >= size) {
            *used = HSB__RECORD_HEADER + size;
            return hsb__record_decrypt(r, bytes, size, f);
        }
    }
    n = hsb__record_collect(r, bytes, len, HSB__RECORD_HEADER);
    if (n == SIZE_MAX)
        return HSB__TLS_ERR_MEMORY;
    *used = n;
    if (hsb__buffer_len(&r->part) < HSB__RECORD_HEADER)
        return 0;
    unsigned char *whole = (unsigned char *)hsb__buffer_data(&r->part);
    int error = hsb__record_judge(r, whole, &size);
    if (error)
        return error;
    n = hsb__record_collect(r, bytes + *used, len - *used, HSB__RECORD_HEADER + size);
    if (n == SIZE_MAX)
        return HSB__TLS_ERR_MEMORY;
    *used += n;
    if (hsb__buffer_len(&r->part) < HSB__RECORD_HEADER + size)
        return 0;
    whole = (unsigned char *)hsb__buffer_data(&r->part);
    hsb__buffer_taken(&r->part, hsb__buffer_len(&r->part));     /* f->data stays there   */
    return hsb__record_decrypt(r, whole, size, f);
}

/* ===== >>tls12 ===================================================================
   Purpose  handshakes of TLS 1.2, by BearSSL's engine: the three classes through which it asks
            us, its records, and what is left of it after the handshake
   Uses     >>platform >>memory >>text >>address >>security >>hello >>choice >>verify
            >>record
   Names    hsb__tls12_*
   Tests    tests/unit/tls*.c, tests/unit/wipes.c

   BearSSL asks in this order:
     load()                     session cache: the session ID is read, what follows is not
     choose()                   policy: all of the ClientHello is read
     do_sign()                  policy: for the key exchange
     start_chain()..end_chain() X.509: if the client sends a certificate
     save()                     session cache: the handshake is complete
   If load() takes a session, a resumed handshake follows, in which nothing else is asked. */

/* The engine calls each class with the address of the pointer to it; owner, the field after
   that pointer, leads back here.  Never moved after its init: an engine points into itself. */
typedef struct hsb__tls12 hsb__tls12;
struct hsb__tls12 {
    br_ssl_server_context server;
    struct hsb__tls12_choice {
        const br_ssl_server_policy_class *class;
        hsb__tls12 *owner;
    } choice;
    struct hsb__tls12_cache {
        const br_ssl_session_cache_class *class;
        hsb__tls12 *owner;
    } cache;
    struct hsb__tls12_x509 {
        const br_x509_class *class;
        hsb__tls12 *owner;
    } x509;

    /* set for each connection */
    hsb_security *security;
    bool          ask, require;     /* for a client certificate                           */
    hsb__record  *record;           /* of the connection                                  */
    hsb__tls12   *next;             /* in hsb__tls12_pool                                 */

    /* set in the course of the handshake */
    unsigned             hash;      /* of the signature: br_sha256_ID ...                 */
    bool                 resumed;   /* load() took a session; choose() takes it back      */
    unsigned char        binding[32];       /* of that session                            */
    const hsb__hello    *hello;     /* while the engine reads it; NULL: not seen whole    */
    const hsb__identity *shown;     /* choose() took it                                   */
    hsb__verify          verify;    /* the client's chain                                 */
};

/* The name that the client asked for, normalised; "" if there is none.  false: an invalid one.
   The engine keeps it as a C string, where a name with a NUL in it looks shorter.  But all
   that the engine did not write is still HSB__TLS12_UNWRITTEN.                            */
enum { HSB__TLS12_UNWRITTEN = 0xFF };

static bool hsb__tls12_server_name(const hsb__tls12 *e, char out[HSB__HOST_SIZE])
{
    const char *name = e->server.eng.server_name;
    const size_t size = sizeof e->server.eng.server_name, len = strnlen(name, size);
    out[0] = '\0';
    for (size_t i = len + 1; i < size; i++)
        if ((unsigned char)name[i] != HSB__TLS12_UNWRITTEN)
            return false;
    return len == 0 || hsb__choice_read_name(hsb__text_make(name, len), out);
}

/* --- the policy class ------------------------------------------------------------------ */
static hsb__tls12 *hsb__tls12_of_choice(const br_ssl_server_policy_class **class)
{
    return ((struct hsb__tls12_choice *)(void *)class)->owner;
}

/* The engine lists the common suites in the client's order, as
   BR_OPT_ENFORCE_SERVER_PREFERENCES is off.  The client's hashes for RSA are in the low byte,
   those for ECDSA in the next.                                                            */
static void hsb__tls12_read_offer(const br_ssl_server_context *server, hsb__offer *out)
{
    const uint32_t hashes = br_ssl_server_get_client_hashes(server);
    const br_suite_translated *common =
        br_ssl_server_get_client_suites(server, &out->suite_count);
    for (size_t i = 0; i < out->suite_count; i++)
        out->suites[i] = common[i][0];
    out->rsa_hashes = hashes & 0xFF;
    out->ec_hashes = hashes >> 8 & 0xFF;
    out->curves = br_ssl_server_get_client_curves(server);
}

/* 0: the engine sends handshake_failure.                                                  */
static int hsb__tls12_choose(const br_ssl_server_policy_class **class,
                             const br_ssl_server_context *server, br_ssl_server_choices *out)
{
    hsb__tls12 *e = hsb__tls12_of_choice(class);
    char name[HSB__HOST_SIZE];
    hsb__offer offer;
    hsb__choice choice;
    /* This is a full handshake.  If load() took a session, then the engine dropped it (for
       its suite or version) without a word; its client is not to be believed any more.   */
    e->resumed = false;
    hsb__verify_forget_leaf(&e->verify);
    hsb__tls12_server_name(e, name);
    hsb__tls12_read_offer(server, &offer);
    if (!hsb__choice_make(e->security, name, &offer, &choice))
        return 0;
    e->shown = choice.who;
    e->hash = choice.hash;
    e->server.curves &= HSB__CHOICE_CURVES;     /* of these the engine takes its favourite */
    out->cipher_suite = (uint16_t)choice.suite;
    out->algo_id = 0xFF00 + choice.hash;    /* the engine hashes, hsb__tls12_sign signs    */
    out->chain = choice.who->chain.certs;
    out->chain_len = choice.who->chain.count;
    return 1;
}

/* For static key exchange, which none of our suites has.                                  */
static uint32_t hsb__tls12_exchange(const br_ssl_server_policy_class **class,
                                    unsigned char *data, size_t *len)
{
    (void)class;
    (void)data;
    (void)len;
    return 0;
}

/* data holds the digest, and then the signature; its 512 bytes are enough for RSA-4096.   */
static size_t hsb__tls12_sign(const br_ssl_server_policy_class **class, unsigned algorithm,
                              unsigned char *data, size_t digest_len, size_t size)
{
    const hsb__tls12 *e = hsb__tls12_of_choice(class);
    if (algorithm < 0xFF00)
        return 0;
    return hsb__choice_sign(&e->security->crypto, e->shown, algorithm & 0xFF, data, digest_len,
                            size);
}

/* --- the session cache's class ---------------------------------------------------------- */
static hsb__tls12 *hsb__tls12_of_cache(const br_ssl_session_cache_class **class)
{
    return ((struct hsb__tls12_cache *)(void *)class)->owner;
}

static void hsb__tls12_make_binding(const hsb__tls12 *e, const char *name, size_t alpn,
                                    unsigned char out[32])
{
    hsb__choice_binding(BR_TLS12, name, alpn, e->ask, e->require, out);
}

/* Finds the session of that ID, and its client's leaf, if the ClientHello fits it.  A
   client that sends an invalid name never resumes; one whose ALPN names are none of ours is
   refused, which happens in a full handshake.                                             */
static bool hsb__tls12_find(hsb__tls12 *e, const unsigned char id[32], size_t alpn,
                            hsb__session *out)
{
    const hsb__hello *hello = e->hello;
    char name[HSB__HOST_SIZE] = "";
    if (hello->version < BR_TLS12 || (hello->protocols.ptr && e->security->alpn_count && !alpn) ||
        (hello->server_name.ptr && !hsb__choice_read_name(hello->server_name, name)))
        return false;
    hsb__tls12_make_binding(e, name, alpn, e->binding);
    return hsb__sessions_load(&e->security->sessions, id, e->binding, out, e->verify.pool,
                              &e->verify.leaf) &&
           hsb__hello_has(hello->suites, out->suite);
}

/* The engine has read the session ID, and nothing that follows.                           */
static int hsb__tls12_load(const br_ssl_session_cache_class **class,
                           br_ssl_server_context *server, br_ssl_session_parameters *params)
{
    hsb__tls12 *e = hsb__tls12_of_cache(class);
    hsb__session session;
    const size_t alpn = e->hello ? hsb__choice_alpn(e->security, e->hello) : 0;
    e->resumed = e->hello && hsb__tls12_find(e, params->session_id, alpn, &session);
    if (!e->resumed) {
        hsb__memory_wipe(&session, sizeof session);     /* found, but its suite did not fit */
        hsb__verify_forget_leaf(&e->verify);
        return 0;
    }
    e->verify.verified = e->verify.leaf.der != NULL;
    e->verify.until = session.until_wall;
    params->version = BR_TLS12;
    params->cipher_suite = session.suite;
    memcpy(params->master_secret, session.secret, sizeof session.secret);
    hsb__memory_wipe(&session, sizeof session);
    /* If a client that resumes offered ALPN names and none was ours, 0.6 would copy the name
       at index 0xFFFE and crash.  find() refuses that; and without a list the engine looks at
       no name.                                                                            */
    if (!alpn)
        br_ssl_engine_set_protocol_names(&server->eng, NULL, 0);
    return 1;
}

/* The handshake is complete.                                                              */
static void hsb__tls12_save(const br_ssl_session_cache_class **class,
                            br_ssl_server_context *server,
                            const br_ssl_session_parameters *params)
{
    const hsb__tls12 *e = hsb__tls12_of_cache(class);
    const hsb__verify *v = &e->verify;
    hsb__sessions *all = &e->security->sessions;
    hsb__session session;
    char name[HSB__HOST_SIZE];
    if (!hsb__tls12_server_name(e, name))
        return;
    memset(&session, 0, sizeof session);
    memcpy(session.id, params->session_id, sizeof session.id);
    memcpy(session.secret, params->master_secret, sizeof session.secret);
    hsb__tls12_make_binding(e, name, server->eng.selected_protocol, session.binding);
    session.until_us = hsb__os_now_us() + all->lifetime_us;
    session.until_wall = hsb__verify_until(v);
    session.suite = params->cipher_suite;
    session.leaf_len = v->verified ? (uint32_t)v->leaf.len : 0;
    hsb__sessions_save(all, &session, v->leaf.der);
    hsb__memory_wipe(&session, sizeof session);
}

/* --- the X.509 class -----------------------------------------------------------------------
   For a client that sends an empty chain nothing of this is called, and the engine goes by
   BR_OPT_TOLERATE_NO_CLIENT_AUTH.  But that flag also lets a chain pass which does not
   verify.  So it is on when a handshake starts (unless a certificate is required), and as
   soon as there is a chain, start_chain() removes it: then only a valid chain passes.     */
static hsb__tls12 *hsb__tls12_of_x509(const br_x509_class *const *class)
{
    return ((const struct hsb__tls12_x509 *)(const void *)class)->owner;
}

static void hsb__tls12_start_chain(const br_x509_class **class, const char *unused)
{
    hsb__tls12 *e = hsb__tls12_of_x509(class);
    (void)unused;
    br_ssl_engine_remove_flags(&e->server.eng, BR_OPT_TOLERATE_NO_CLIENT_AUTH);
    hsb__verify_start_chain(&e->verify);
}

static void hsb__tls12_start_cert(const br_x509_class **class, uint32_t length)
{
    hsb__verify_start_cert(&hsb__tls12_of_x509(class)->verify, length);
}

static void hsb__tls12_append(const br_x509_class **class, const unsigned char *bytes,
                              size_t len)
{
    hsb__verify_append(&hsb__tls12_of_x509(class)->verify, bytes, len);
}

static void hsb__tls12_end_cert(const br_x509_class **class)
{
    hsb__verify_end_cert(&hsb__tls12_of_x509(class)->verify);
}

static unsigned hsb__tls12_end_chain(const br_x509_class **class)
{
    return hsb__verify_end_chain(&hsb__tls12_of_x509(class)->verify);
}

static const br_x509_pkey *hsb__tls12_key(const br_x509_class *const *class, unsigned *usages)
{
    if (usages)
        *usages = BR_KEYTYPE_SIGN;
    return hsb__verify_key(&hsb__tls12_of_x509(class)->verify);
}

/* --- life ------------------------------------------------------------------------------- */

/* The generator is seeded here, once: an unused context stays seeded.  rng_os_rand_done
   keeps 0.6 from doing it again, by RDRAND behind a CPUID that a virtual machine traps, or
   by /dev/urandom, which a chroot does not have.                                          */
static bool hsb__tls12_seed(br_ssl_engine_context *eng)
{
    unsigned char seed[32];
    if (!hsb__os_entropy(seed, sizeof seed))
        return false;
    br_ssl_engine_inject_entropy(eng, seed, sizeof seed);
    eng->rng_os_rand_done = 1;
    hsb__memory_wipe(seed, sizeof seed);
    return true;
}

/* What is the same for every connection.  The hashes are also those that are believed in
   signatures and offered in CertificateRequest: no SHA-1, no MD5.                         */
static bool hsb__tls12_init(hsb__tls12 *e)
{
    br_ssl_engine_context *eng = &e->server.eng;
    br_ssl_server_zero(&e->server);
    br_ssl_engine_set_versions(eng, BR_TLS12, BR_TLS12);
    br_ssl_engine_set_hash(eng, br_sha256_ID, &br_sha256_vtable);
    br_ssl_engine_set_hash(eng, br_sha384_ID, &br_sha384_vtable);
    br_ssl_engine_set_hash(eng, br_sha512_ID, &br_sha512_vtable);
    br_ssl_engine_set_prf_sha256(eng, &br_tls12_sha256_prf);
    br_ssl_engine_set_prf_sha384(eng, &br_tls12_sha384_prf);
    br_ssl_engine_set_gcm(eng, &br_sslrec_in_gcm_vtable, &br_sslrec_out_gcm_vtable);
    br_ssl_engine_set_cbc(eng, &br_sslrec_in_cbc_vtable, &br_sslrec_out_cbc_vtable);
    br_ssl_engine_set_chapol(eng, &br_sslrec_in_chapol_vtable, &br_sslrec_out_chapol_vtable);
    return hsb__tls12_seed(eng);
}

static void hsb__tls12_set_crypto(br_ssl_engine_context *eng, const hsb__crypto *c)
{
    br_ssl_engine_set_ec(eng, c->ec);
    br_ssl_engine_set_ecdsa(eng, c->ecdsa_verify);
    br_ssl_engine_set_rsavrfy(eng, c->rsa_verify);
    br_ssl_engine_set_aes_cbc(eng, c->cbc_encrypt, c->cbc_decrypt);
    br_ssl_engine_set_aes_ctr(eng, c->ctr);
    br_ssl_engine_set_ghash(eng, c->ghash);
    br_ssl_engine_set_chacha20(eng, c->chacha20);
    br_ssl_engine_set_poly1305(eng, c->poly1305);
}

/* What depends on the security and the listener.  Flags and names are set each time, as
   the last handshake may have removed them.                                               */
static void hsb__tls12_set_policy(hsb__tls12 *e)
{
    br_ssl_server_context *server = &e->server;
    const hsb_security *s = e->security;
    const uint32_t tolerate = e->require ? 0 : BR_OPT_TOLERATE_NO_CLIENT_AUTH;
    hsb__tls12_set_crypto(&server->eng, &s->crypto);
    br_ssl_engine_set_suites(&server->eng, s->suites, s->suite_count);
    br_ssl_engine_set_protocol_names(&server->eng, s->alpn, s->alpn_count);
    br_ssl_engine_set_all_flags(&server->eng, BR_OPT_NO_RENEGOTIATION |
                                              BR_OPT_FAIL_ON_ALPN_MISMATCH | tolerate);
    br_ssl_engine_set_x509(&server->eng, &e->x509.class);
    br_ssl_server_set_policy(server, &e->choice.class);
    br_ssl_server_set_cache(server, &e->cache.class);
    br_ssl_server_set_trust_anchor_names(server, e->ask ? s->authorities.list : NULL,
                                         e->ask ? s->authorities.count : 0);
}

static void hsb__tls12_start(hsb__tls12 *e, hsb__pool *pool, hsb_security *security,
                             bool request, bool require)
{
    static const br_ssl_server_policy_class choice = {
        sizeof(struct hsb__tls12_choice), hsb__tls12_choose, hsb__tls12_exchange,
        hsb__tls12_sign
    };
    static const br_ssl_session_cache_class cache = {
        sizeof(struct hsb__tls12_cache), hsb__tls12_save, hsb__tls12_load
    };
    static const br_x509_class x509 = {
        sizeof(struct hsb__tls12_x509), hsb__tls12_start_chain, hsb__tls12_start_cert,
        hsb__tls12_append, hsb__tls12_end_cert, hsb__tls12_end_chain, hsb__tls12_key
    };
    e->choice.class = &choice;
    e->cache.class = &cache;
    e->x509.class = &x509;
    e->choice.owner = e->cache.owner = e->x509.owner = e;
    e->security = security;
    e->ask = request || require;
    e->require = require;
    e->verify.pool = pool;
    e->verify.security = security;
    hsb__tls12_set_policy(e);
}

/* The buffers are set for every connection, since nothing else undoes a maximum fragment
   length that the last client asked for (RFC 6066 4), and the next would be told of it.
   version_out is for alerts before ServerHello: 0.6 leaves it 0, and no client understands
   "protocol version" in a record of version 0.0.                                          */
static bool hsb__tls12_reset(hsb__tls12 *e, unsigned char *input, size_t input_size,
                             unsigned char *output, size_t output_size)
{
    br_ssl_engine_context *eng = &e->server.eng;
    memset(eng->server_name, HSB__TLS12_UNWRITTEN, sizeof eng->server_name);
    eng->server_name[0] = '\0';
    br_ssl_engine_set_buffers_bidi(eng, input, input_size, output, output_size);
    const bool ready = br_ssl_server_reset(&e->server) != 0;
    eng->version_out = BR_TLS10;
    return ready;
}

/* load() judged the session by what >>hello read, before the engine read it.  Now that
   the handshake is complete: did the engine read the same?                                */
static bool hsb__tls12_holds(const hsb__tls12 *e)
{
    unsigned char binding[32];
    char name[HSB__HOST_SIZE];
    if (!e->resumed)
        return true;
    if (!hsb__tls12_server_name(e, name))
        return false;
    hsb__tls12_make_binding(e, name, e->server.eng.selected_protocol, binding);
    return memcmp(binding, e->binding, sizeof binding) == 0;
}

/* Wipes what is secret, and resets everything but the engine's setup and its generator.    */
static void hsb__tls12_wipe(hsb__tls12 *e)
{
    br_ssl_engine_context *eng = &e->server.eng;
    hsb__memory_wipe(&eng->in, sizeof eng->in);
    hsb__memory_wipe(&eng->out, sizeof eng->out);
    hsb__memory_wipe(&eng->session, sizeof eng->session);
    hsb__memory_wipe(eng->pad, sizeof eng->pad);
    hsb__memory_wipe(e->server.ecdhe_key, sizeof e->server.ecdhe_key);
    memset(&e->choice, 0, sizeof *e - offsetof(hsb__tls12, choice));
}

/* --- records, during the handshake ------------------------------------------------------
   The engine reads from the front of the connection's block (r->out) and writes behind the
   records that are closed there.  What is read here of br_ssl_engine_context, beside its
   functions (BearSSL explains it at the top of ssl_engine.c, under "Input mode" and "Output
   mode"):
     ixa                0: between two records; 1..4: so much of a header is there
     oxa == oxc         nothing was written into the record that is open for plaintext
     out.vtable         the clear one: our ChangeCipherSpec has not been made
     application_data   bit 0: the handshake is complete, and nobody closes
     in, out            the record classes' objects, which hsb__tls12_shed copies         */
enum { HSB__TLS12_INPUT = BR_SSL_BUFSIZE_INPUT };

static void hsb__tls12_place_output(hsb__tls12 *e)
{
    const hsb__record *r = e->record;
    e->server.eng.obuf = r->out + r->made;
    e->server.eng.obuf_len = r->out_size - r->made;
}

/* The engine makes a record only after the last one was sent.  To send a whole flight at
   once, a closed record stays where it is, and the engine is told that it was sent, and that
   the output buffer begins after it.  If there is too little space after it, the record waits
   until those before it were sent, and takes their place.  false: none is there, or it waits. */
static bool hsb__tls12_gather(hsb__tls12 *e)
{
    br_ssl_engine_context *eng = &e->server.eng;
    hsb__record *r = e->record;
    size_t len;
    const unsigned char *at = br_ssl_engine_sendrec_buf(eng, &len);
    if (!at)
        return false;
    if (at != eng->obuf || eng->obuf_len - len < HSB__RECORD_LEAST) {
        if (r->sent < r->made)
            return false;
        memmove(r->out + HSB__TLS12_INPUT, at, len);
        r->sent = r->made = HSB__TLS12_INPUT;
    }
    r->made += len;
    hsb__tls12_place_output(e);
    br_ssl_engine_sendrec_ack(eng, len);
    return true;
}

/* Gives the engine bytes, up to the end of one record at most.                             */
static size_t hsb__tls12_feed(hsb__tls12 *e, const unsigned char *bytes, size_t len)
{
    br_ssl_engine_context *eng = &e->server.eng;
    size_t used = 0, room;
    while (used < len) {
        unsigned char *at = br_ssl_engine_recvrec_buf(eng, &room);
        const size_t n = len - used < room ? len - used : room;
        if (!at)
            break;
        memcpy(at, bytes + used, n);
        br_ssl_engine_recvrec_ack(eng, n);
        used += n;
        if (eng->ixa == 0)
            break;
    }
    return used;
}

/* When all suites of a ClientHello are read, 0.6 looks up each of the 48 places of
   client_suites in its table, and for an empty place goes through all of the table: two
   million instructions of its interpreter, a quarter of a full handshake.  So it gets the
   message up to there; then the empty places are filled with what stands first in the
   table (a suite with static RSA, which choose() never takes); then it gets the rest.      */
static void hsb__tls12_fill_suites(hsb__tls12 *e)
{
    for (size_t i = 0; i < BR_MAX_CIPHER_SUITES; i++)
        if (e->server.client_suites[i][0] == 0)
            e->server.client_suites[i][0] = BR_TLS_RSA_WITH_3DES_EDE_CBC_SHA;
}

/* The ClientHello that was collected, in one record.  hello NULL: it could not be read.    */
static void hsb__tls12_feed_hello(hsb__tls12 *e, hsb_str message, const hsb__hello *hello)
{
    const unsigned char *bytes = (const unsigned char *)message.ptr;
    const unsigned char header[HSB__RECORD_HEADER] = {
        HSB__RECORD_HANDSHAKE, 3, 1, (unsigned char)(message.len >> 8), (unsigned char)message.len
    };
    size_t cut = 0;
    e->hello = hello;
    hsb__tls12_feed(e, header, sizeof header);
    if (hello) {
        cut = (size_t)(hello->suites.ptr + hello->suites.len - message.ptr);
        if (hsb__tls12_feed(e, bytes, cut) == cut)
            hsb__tls12_fill_suites(e);
    }
    hsb__tls12_feed(e, bytes + cut, message.len - cut);
    e->hello = NULL;
}

/* RFC 8446 4.1.3: a server that speaks 1.3, and answers with 1.2, says so at the end of its
   random, which 1.2 signs.  Then a client that speaks 1.3 knows that somebody has changed its
   offer.  The engine makes its random right before it writes it.  So its first record is cut
   short after type, length and version: the engine stops there, and the random is still to come. */
enum { HSB__TLS12_CUT = 6 };

/* The two records of that ServerHello become one again, if it may be so long.               */
static void hsb__tls12_join(hsb__tls12 *e)
{
    hsb__record *r = e->record;
    unsigned char *first = r->out + HSB__TLS12_INPUT;
    unsigned char *second = first + HSB__RECORD_HEADER + HSB__TLS12_CUT;
    if (r->sent != HSB__TLS12_INPUT ||
        r->made < HSB__TLS12_INPUT + 2 * HSB__RECORD_HEADER + HSB__TLS12_CUT ||
        first[0] != HSB__RECORD_HANDSHAKE || second[0] != HSB__RECORD_HANDSHAKE ||
        first[3] != 0 || first[4] != HSB__TLS12_CUT)
        return;
    const size_t len = ((size_t)second[3] << 8 | second[4]) + HSB__TLS12_CUT;
    if (len > e->server.eng.max_frag_len)
        return;
    memmove(first + 2 * HSB__RECORD_HEADER, first + HSB__RECORD_HEADER, HSB__TLS12_CUT);
    memmove(first + HSB__RECORD_HEADER, first, HSB__RECORD_HEADER);
    first[8] = (unsigned char)(len >> 8);
    first[9] = (unsigned char)len;
    r->sent += HSB__RECORD_HEADER;
}

/* The ClientHello, and our answer to it.  mark: tell the client that we speak 1.3, too.     */
static void hsb__tls12_take_hello(hsb__tls12 *e, hsb_str message, const hsb__hello *hello,
                                  bool mark)
{
    br_ssl_engine_context *eng = &e->server.eng;
    if (mark)
        eng->oxb = eng->oxa + HSB__TLS12_CUT;
    hsb__tls12_feed_hello(e, message, hello);
    if (mark)
        memcpy(eng->server_random + 24, "DOWNGRD\1", 8);
    while (hsb__tls12_gather(e))
        ;
    if (mark)
        hsb__tls12_join(e);
}

/* Alerts of ours while the engine has the connection: protected as its own would be.       */
static void hsb__tls12_lend_output(hsb__tls12 *e)
{
    br_ssl_engine_context *eng = &e->server.eng;
    while (hsb__tls12_gather(e))
        ;
    if (eng->out.vtable == &br_sslrec_out_clear_vtable)
        return;
    e->record->classes.out = &eng->out.vtable;
    e->record->protect_out = HSB__BY_CLASSES;
}

/* --- after the handshake -------------------------------------------------------------------
   BearSSL's engine has done its part.  Of its 4 KB the connection needs the two objects that
   protect records, which hold no pointers into themselves.                                 */
static bool hsb__tls12_may_shed(hsb__tls12 *e)
{
    const br_ssl_engine_context *eng = &e->server.eng;
    while (hsb__tls12_gather(e))
        ;
    return br_ssl_engine_current_state(eng) == (BR_SSL_SENDAPP | BR_SSL_RECVREC) &&
           eng->ixa == 0 && eng->oxa == eng->oxc;
}

static bool hsb__tls12_shed(hsb__tls12 *e)
{
    const br_ssl_engine_context *eng = &e->server.eng;
    hsb__record *r = e->record;
    const size_t in = (eng->in.vtable->context_size + 15) & ~(size_t)15;    /* aligned   */
    const size_t size = in + eng->out.vtable->context_size;
    unsigned char *block = r->secrets.classes;
    if (size > sizeof r->secrets.classes) {
        r->classes.size = size;
        block = r->classes.block = hsb__pool_get(r->pool, &r->classes.size);
    }
    if (!block)
        return false;
    memcpy(block, &eng->in, eng->in.vtable->context_size);
    memcpy(block + in, &eng->out, eng->out.vtable->context_size);
    r->classes.in = (const br_sslrec_in_class **)(void *)block;
    r->classes.out = (const br_sslrec_out_class **)(void *)(block + in);
    r->protect_in = r->protect_out = HSB__BY_CLASSES;
    r->limit = eng->max_frag_len < HSB__RECORD_MOST ? eng->max_frag_len : HSB__RECORD_MOST;
    return true;
}

/* --- contexts, used again -------------------------------------------------------------------- */
typedef struct hsb__tls12_pool {
    hsb__memory *memory;
    hsb__tls12  *unused;        /* their random generators are seeded                   */
    int          unused_count;
} hsb__tls12_pool;

enum { HSB__TLS12_KEEP = 64 };          /* unused contexts                              */

static hsb__tls12 *hsb__tls12_get(hsb__tls12_pool *pool)
{
    hsb__tls12 *e = pool->unused;
    if (e) {
        pool->unused = e->next;
        pool->unused_count--;
        return e;
    }
    e = hsb__memory_zeroed(pool->memory, sizeof *e);
    if (e && !hsb__tls12_init(e)) {
        hsb__memory_free(pool->memory, e, sizeof *e);
        return NULL;
    }
    return e;
}

static void hsb__tls12_put(hsb__tls12_pool *pool, hsb__tls12 *e)
{
    hsb__verify_end(&e->verify);
    hsb__tls12_wipe(e);
    if (pool->unused_count >= HSB__TLS12_KEEP) {
        hsb__memory_free_secret(pool->memory, e, sizeof *e);
        return;
    }
    e->next = pool->unused;
    pool->unused = e;
    pool->unused_count++;
}

static void hsb__tls12_pool_close(hsb__tls12_pool *pool)
{
    for (hsb__tls12 *e = pool->unused, *next; e; e = next) {
        next = e->next;
        hsb__memory_free_secret(pool->memory, e, sizeof *e);
    }
    pool->unused = NULL;
    pool->unused_count = 0;
}

/* ===== >>shake13 =================================================================
   Purpose  the state of a handshake of TLS 1.3, and its messages as they are written
   Uses     >>memory >>buffer >>address >>security >>verify >>secrets >>record
   Names    hsb__tls13, hsb__wait13, hsb__wire_*, hsb__shake13_*
   Tests    tests/unit/tls13.c, tests/unit/tls*.c                                      */

typedef enum hsb__wait13 {
    HSB__WAIT_HELLO, HSB__WAIT_HELLO_AGAIN, HSB__WAIT_CERTIFICATE, HSB__WAIT_VERIFY,
    HSB__WAIT_FINISHED, HSB__WAIT_NOTHING
} hsb__wait13;

enum {
    HSB__GROUP_P256 = 23, HSB__GROUP_X25519 = 29,       /* BearSSL's numbers, too          */
    HSB__GROUP_HYBRID = 0x11EC,         /* X25519MLKEM768                                  */
    HSB__ML_KEM_KEY = 1184, HSB__ML_KEM_CIPHERTEXT = 1088,
    HSB__SHARE_MAX = HSB__ML_KEM_CIPHERTEXT + 32,
    HSB__TLS13_EARLY = 65536,           /* bytes of early data that are skipped            */
    HSB__TLS13_CCS = 2,                 /* ChangeCipherSpec records that mean nothing      */
    HSB__TLS13_MESSAGE = 4096           /* a message that is no Certificate                */
};

/* A handshake, from the first ClientHello to COMPLETE.                                    */
typedef struct hsb__tls13 {
    size_t               size;          /* of this block                                   */
    hsb__record         *record;
    hsb__pool           *pool;
    hsb_security        *security;
    bool                 ask, require;  /* for a client certificate                        */
    hsb__wait13          state;
    const hsb__suite13  *suite;
    unsigned             group;         /* of the key exchange, or asked for               */
    unsigned             scheme;        /* of our signature                                */
    const hsb__identity *shown;
    size_t               alpn;          /* 1 + index in alpn; 0: none agreed               */
    char                 name[HSB__HOST_SIZE];      /* asked for, normalised; "": none     */
    unsigned char        client_random[32];
    hsb__transcript      transcript;
    unsigned char        secret[HSB__HASH_MAX];     /* of this stage                       */
    unsigned char        client_data[HSB__HASH_MAX];    /* the client's, for COMPLETE      */
    unsigned char        first_hello[32];   /* digest of what a second one may not change  */
    hsb__verify          verify;        /* the client's chain                              */
    hsb__buffer          message;       /* handshake bytes that were not read yet          */
    size_t               early;         /* bytes of early data that may still be skipped   */
    unsigned char        ccs;           /* such records so far                             */
    unsigned char        binding[32];   /* of the session, this one's or the next one's    */
    unsigned             psk;           /* which of the client's PSK identities is used    */
    uint64_t             until_us;      /* later connections may resume so long, however   */
    int64_t              until_wall;    /*   often: see hsb__session                       */
    bool                 ccs_sent, retried, resumed;
    bool                 sealed;        /* by a sealed ticket                              */
    bool                 may_resume;    /* a later connection, with a ticket               */
} hsb__tls13;

/* --- messages, written ------------------------------------------------------------------
   Into a buffer.  A vector is opened, filled and closed, which writes its length.  Once
   memory ran out, nothing more is written, and only the end of it all needs to be looked at. */
typedef struct hsb__wire { hsb__buffer bytes; bool failed; } hsb__wire;

static void hsb__wire_put(hsb__wire *w, const void *bytes, size_t len)
{
    if (!hsb__buffer_append(&w->bytes, bytes, len))
        w->failed = true;
}

/* A big-endian number of 1 to 4 bytes.                                                    */
static void hsb__wire_number(hsb__wire *w, size_t size, size_t n)
{
    unsigned char bytes[4];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(n >> (8 * (size - 1 - i)));
    hsb__wire_put(w, bytes, size);
}

/* Returns the mark that hsb__wire_close wants.                                            */
static size_t hsb__wire_open(hsb__wire *w, size_t size)
{
    hsb__wire_number(w, size, 0);
    return hsb__buffer_len(&w->bytes);
}

static void hsb__wire_close(hsb__wire *w, size_t mark, size_t size)
{
    if (w->failed)
        return;
    const size_t len = hsb__buffer_len(&w->bytes) - mark;
    unsigned char *at = (unsigned char *)hsb__buffer_data(&w->bytes) + mark - size;
    HSB_ASSERT(len >> (8 * size) == 0);
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(len >> (8 * (size - 1 - i)));
}

static void hsb__wire_vector(hsb__wire *w, size_t size, const void *bytes, size_t len)
{
    hsb__wire_number(w, size, len);
    hsb__wire_put(w, bytes, len);
}

/* An extension that is one number.                                                        */
static void hsb__wire_extension(hsb__wire *w, unsigned type, size_t size, unsigned n)
{
    hsb__wire_number(w, 2, type);
    hsb__wire_number(w, 2, size);
    hsb__wire_number(w, size, n);
}

/* One message: from open to close its type and length; it joins the transcript and goes to
   the records.                                                                            */
static size_t hsb__shake13_open(hsb__tls13 *t, hsb__wire *w, unsigned type)
{
    memset(w, 0, sizeof *w);
    w->bytes.pool = t->pool;
    hsb__wire_number(w, 1, type);
    return hsb__wire_open(w, 3);
}

static bool hsb__shake13_close(hsb__tls13 *t, hsb__wire *w, size_t mark)
{
    hsb__wire_close(w, mark, 3);
    const size_t len = hsb__buffer_len(&w->bytes);
    const bool ok = !w->failed && hsb__record_put(t->record, HSB__RECORD_HANDSHAKE,
                                                  hsb__buffer_data(&w->bytes), len);
    if (ok)
        hsb__transcript_add(&t->transcript, hsb__buffer_data(&w->bytes), len);
    hsb__buffer_release(&w->bytes);
    return ok;
}

/* ===== >>resume13 ================================================================
   Purpose  resumption in TLS 1.3 (RFC 8446 4.2.11, 4.6.1): tickets out, pre-shared keys in
   Uses     >>platform >>memory >>key >>security >>hello >>verify >>secrets >>record
            >>shake13
   Names    hsb__seal_*, hsb__psk_*
   Tests    tests/unit/tls13.c, tests/unit/tls13_tickets.c, tests/unit/tls_resumption.c,
            tests/unit/vectors.c, tests/unit/timing.c, tests/unit/wipes.c, tests/tls

   A ticket is the ID of an entry in the session cache, or, with ticket_key and for clients
   without a certificate, the session itself, sealed.  No early data, ever.               */

enum { HSB__PSKS_TRIED = 4 };           /* PSK identities of a client that are tried          */

/* --- sealed tickets: sessions that any machine with the same ticket_key resumes ------------
   ChaCha20-Poly1305 under a key of the hour, HMAC(ticket_key, hour): a stolen ticket's key is of
   no use for long, and no two of our nonces, which are random, meet under one key.
     hour 8 | nonce 12 | sealed: binding 32, until 8, suite 2, secret 48 | tag 16            */
enum {
    HSB__SEAL_NONCE = 8, HSB__SEAL_DATA = 20, HSB__SEAL_UNTIL = 52, HSB__SEAL_SUITE = 60,
    HSB__SEAL_SECRET = 62, HSB__SEAL_TAG = 110, HSB__SEAL_SIZE = 126
};

static void hsb__seal_put(unsigned char *at, size_t size, uint64_t n)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(n >> (8 * (size - 1 - i)));
}

static uint64_t hsb__seal_get(const unsigned char *at, size_t size)
{
    uint64_t n = 0;
    for (size_t i = 0; i < size; i++)
        n = n << 8 | at[i];
    return n;
}

/* Encrypts or decrypts what is in a ticket, and makes its tag.                               */
static void hsb__seal_run(const hsb_security *s, unsigned char *ticket, bool encrypt,
                          unsigned char tag[16])
{
    unsigned char key[HSB__HASH_MAX];
    hsb__secret_extract(&br_sha256_vtable, s->ticket_key, sizeof s->ticket_key, ticket,
                        HSB__SEAL_NONCE, key);
    s->crypto.poly1305(key, ticket + HSB__SEAL_NONCE, ticket + HSB__SEAL_DATA,
                       HSB__SEAL_TAG - HSB__SEAL_DATA, ticket, HSB__SEAL_NONCE, tag,
                       s->crypto.chacha20, encrypt);
    hsb__memory_wipe(key, sizeof key);
}

/* until: seconds of the wall clock, which machines share.  False: no randomness.             */
static bool hsb__seal_close(const hsb_security *s, const hsb__session *session, int64_t until,
                            unsigned char ticket[HSB__SEAL_SIZE])
{
    hsb__seal_put(ticket, 8, (uint64_t)(hsb__os_wall() / 3600));
    if (!hsb__os_entropy(ticket + HSB__SEAL_NONCE, 12))
        return false;
    memcpy(ticket + HSB__SEAL_DATA, session->binding, 32);
    hsb__seal_put(ticket + HSB__SEAL_UNTIL, 8, (uint64_t)until);
    hsb__seal_put(ticket + HSB__SEAL_SUITE, 2, session->suite);
    memcpy(ticket + HSB__SEAL_SECRET, session->secret, 48);
    hsb__seal_run(s, ticket, true, ticket + HSB__SEAL_TAG);
    return true;
}

/* False: not one of ours, altered, or too old.                                               */
static bool hsb__seal_open(const hsb_security *s, hsb_str identity, hsb__session *out,
                           int64_t *until)
{
    unsigned char ticket[HSB__SEAL_SIZE], tag[16];
    const int64_t now = hsb__os_wall();
    if (!s->seals || identity.len != sizeof ticket)
        return false;
    memcpy(ticket, identity.ptr, sizeof ticket);
    hsb__seal_run(s, ticket, false, tag);
    const bool ours = hsb__memory_same(tag, ticket + HSB__SEAL_TAG, sizeof tag);
    memset(out, 0, sizeof *out);
    memcpy(out->binding, ticket + HSB__SEAL_DATA, 32);
    *until = (int64_t)hsb__seal_get(ticket + HSB__SEAL_UNTIL, 8);
    out->suite = (uint16_t)hsb__seal_get(ticket + HSB__SEAL_SUITE, 2);
    memcpy(out->secret, ticket + HSB__SEAL_SECRET, 48);
    hsb__memory_wipe(ticket, sizeof ticket);
    return ours && now < *until &&
           *until - now <= (int64_t)(s->sessions.lifetime_us / 1000000);
}

/* RFC 8446 4.2.11.2: the binder proves that the client has the key.  It is over the hello up to
   the binders.                                                                              */
static bool hsb__psk_binder_fits(const hsb__tls13 *t, const hsb__hello *hello,
                                   const unsigned char *early, hsb_str binder)
{
    const br_hash_class *hash = t->suite->hash;
    const size_t len = hsb__hash_len(hash);
    hsb__transcript copy = t->transcript, nothing;
    unsigned char key[HSB__HASH_MAX], messages[HSB__HASH_MAX], mac[HSB__HASH_MAX];
    hsb__transcript_start(&nothing, hash);
    hsb__secret_derive(&nothing, early, "res binder", key);
    hsb__transcript_add(&copy, hello->message.ptr, hello->binders_at);
    hsb__transcript_hash(&copy, messages);
    hsb__secret_finished(hash, key, messages, mac);
    const bool fits = binder.len == len && hsb__memory_same(mac, binder.ptr, len);
    hsb__memory_wipe(key, sizeof key);
    hsb__memory_wipe(mac, sizeof mac);
    return fits;
}

/* A session of that ID which may be resumed with this suite and binding; its client's leaf
   goes to t->verify.                                                                        */
static bool hsb__psk_find(hsb__tls13 *t, hsb_str identity, hsb__session *out)
{
    int64_t until;
    if (hsb__seal_open(t->security, identity, out, &until)) {
        out->until_us = hsb__os_now_us() + (uint64_t)(until - hsb__os_wall()) * 1000000;
        out->until_wall = INT64_MAX;
        t->sealed = true;
        if (memcmp(out->binding, t->binding, sizeof out->binding) != 0)
            return false;
    } else if (identity.len != sizeof out->id ||
               !hsb__sessions_load(&t->security->sessions, (const unsigned char *)identity.ptr,
                                   t->binding, out, t->pool, &t->verify.leaf)) {
        return false;
    }
    for (size_t i = 0; i < 3; i++)
        if (hsb__suites13[i].number == out->suite && hsb__suites13[i].hash == t->suite->hash)
            return true;
    hsb__verify_forget_leaf(&t->verify);
    return false;
}

/* One PSK identity of the client.  A session that is found counts only once its binder has
   verified, and is taken out of the cache then.  0, or what ends the handshake.             */
static int hsb__psk_try(hsb__tls13 *t, const hsb__hello *hello, hsb_str identity,
                           hsb_str binder, hsb__session *session)
{
    t->sealed = false;
    if (!hsb__psk_find(t, identity, session))
        return 0;
    hsb__secret_first_stage(t->suite->hash, session->secret, hsb__hash_len(t->suite->hash),
                            t->secret);
    const bool fits = hsb__psk_binder_fits(t, hello, t->secret, binder);
    t->resumed = fits && (t->sealed || hsb__sessions_remove(&t->security->sessions, session->id));
    t->until_us = session->until_us;
    t->until_wall = session->until_wall;
    t->verify.verified = t->resumed && t->verify.leaf.der;
    if (!t->resumed)
        hsb__verify_forget_leaf(&t->verify);
    return fits ? 0 : HSB__TLS_ERR_BINDER;
}

/* Tries the first few PSK identities of the client.                                         */
static int hsb__psk_resume(hsb__tls13 *t, const hsb__hello *hello)
{
    hsb_str identities = hello->psks, binders = hello->binders, identity, age, binder;
    hsb__session session;
    int error = 0;
    memset(&session, 0, sizeof session);
    for (unsigned i = 0; identities.len && i < HSB__PSKS_TRIED && !t->resumed && !error; i++) {
        t->psk = i;
        if (!hsb__hello_vector(&identities, 2, &identity) ||
            !hsb__hello_bytes(&identities, 4, &age) || !hsb__hello_vector(&binders, 1, &binder))
            error = BR_ERR_BAD_PARAM;
        else
            error = hsb__psk_try(t, hello, identity, binder, &session);
    }
    hsb__memory_wipe(&session, sizeof session);
    return error;
}

/* RFC 8446 4.6.1.  The key of each ticket comes from the secret of this connection.         */
static bool hsb__psk_send_ticket(hsb__tls13 *t, unsigned char number)
{
    const br_hash_class *hash = t->suite->hash;
    const uint64_t now = hsb__os_now_us();
    const uint64_t left = now < t->until_us ? (t->until_us - now) / 1000000 : 0;
    const bool seal = t->security->seals && !t->verify.verified;
    unsigned char age[4], ticket[HSB__SEAL_SIZE];
    hsb__session session;
    hsb__wire w;
    memset(&session, 0, sizeof session);
    if (!hsb__os_entropy(session.id, sizeof session.id) || !hsb__os_entropy(age, sizeof age))
        return false;
    hsb__secret_expand(hash, t->secret, "resumption", &number, 1, session.secret,
                       hsb__hash_len(hash));
    memcpy(session.binding, t->binding, sizeof session.binding);
    session.until_us = t->until_us;
    session.until_wall = t->until_wall;
    session.suite = (uint16_t)t->suite->number;
    session.leaf_len = t->verify.verified ? (uint32_t)t->verify.leaf.len : 0;
    if (seal && !hsb__seal_close(t->security, &session, hsb__os_wall() + (int64_t)left, ticket)) {
        hsb__memory_wipe(&session, sizeof session);
        return false;
    }
    const size_t message = hsb__shake13_open(t, &w, 4);
    hsb__wire_number(&w, 4, (size_t)left);
    hsb__wire_put(&w, age, sizeof age);
    hsb__wire_vector(&w, 1, &number, 1);
    hsb__wire_vector(&w, 2, seal ? ticket : session.id, seal ? sizeof ticket : sizeof session.id);
    hsb__wire_number(&w, 2, 0);
    const bool ok = hsb__shake13_close(t, &w, message);
    if (ok && !seal)
        hsb__sessions_save(&t->security->sessions, &session, t->verify.leaf.der);
    hsb__memory_wipe(&session, sizeof session);
    return ok;
}

/* Two, so that a browser has one for a second connection; one for a ticket that was used up. */
static void hsb__psk_send_tickets(hsb__tls13 *t)
{
    if (!t->resumed) {
        t->until_us = hsb__os_now_us() + t->security->sessions.lifetime_us;
        t->until_wall = hsb__verify_until(&t->verify);
    }
    if (!t->may_resume || hsb__os_now_us() >= t->until_us ||
        (!t->security->seals && !t->security->sessions.limit))
        return;
    if (hsb__psk_send_ticket(t, 0) && !t->resumed)
        hsb__psk_send_ticket(t, 1);
}

/* ===== >>tls13 ===================================================================
   Purpose  the server's handshake of TLS 1.3 (RFC 8446): messages in, records out
   Uses     >>platform >>memory >>text >>buffer >>key >>chain >>security >>hello >>choice
            >>verify >>secrets >>record >>shake13 >>resume13
   Names    hsb__tls13_*
   Tests    tests/unit/tls*.c, tests/unit/wipes.c, tests/tls

   States (HSB__WAIT_...), named after what they wait for; COMPLETE is HSB__WAIT_NOTHING:

     HELLO       -> HELLO_AGAIN   the client sent no share of a group of ours: HelloRetryRequest
     HELLO*      -> CERTIFICATE   we asked for one
                 -> FINISHED      we did not, or the session is resumed
     CERTIFICATE -> VERIFY        a chain that verifies
                 -> FINISHED      none was sent, and none is required
     VERIFY      -> FINISHED      signed with the certificate's key
     FINISHED    -> COMPLETE      the client's MAC is right: only now is it believed

     state         records in      records out     may come
     HELLO         clear           clear           ClientHello (>>tls collects it)
     HELLO_AGAIN   clear           clear           ClientHello, CCS, early data, which is skipped
     others        client's        server's        their message; CCS, alerts in the clear; early
                   handshake keys  application     data until the first record that decrypts
     COMPLETE      client's        server's        data, KeyUpdate, alerts
                   application     application

   Nothing of the application is sent or taken before COMPLETE.                           */

/* --- what the client offers --------------------------------------------------------------- */

/* The best common suite, in our order but for ChaCha20 (see hsb__choice_rank).             */
static const hsb__suite13 *hsb__tls13_choose_suite(const hsb__tls13 *t, const hsb__hello *hello)
{
    static const hsb__suite13 *const fast[] = { &hsb__suites13[0], &hsb__suites13[1],
                                                &hsb__suites13[2] };
    static const hsb__suite13 *const slow[] = { &hsb__suites13[2], &hsb__suites13[0],
                                                &hsb__suites13[1] };
    const bool aes_first = t->security->crypto.aes_is_fast &&
                           hsb__hello_first(hello->suites) != hsb__suites13[2].number;
    const hsb__suite13 *const *order = aes_first ? fast : slow;
    for (size_t i = 0; i < 3; i++)
        if (hsb__hello_has(hello->suites, order[i]->number))
            return order[i];
    return NULL;
}

/* RFC 8446 4.2.3: the scheme in which that key signs, if the client knows it.  For ECDSA the
   curve decides the hash.                                                                  */
static unsigned hsb__tls13_scheme_for(const hsb__identity *who, const hsb__hello *hello)
{
    static const unsigned char pss[] = { 4, 5, 6 };
    if (!who)
        return 0;
    if (who->key.type == BR_KEYTYPE_EC) {
        const unsigned scheme = (unsigned)(who->key.ec.curve - BR_EC_secp256r1 + 4) << 8 | 3;
        return hsb__hello_has(hello->signatures, scheme) ? scheme : 0;
    }
    for (size_t i = 0; i < sizeof pss; i++)
        if (hsb__hello_has(hello->signatures, 0x0800u | pss[i]))
            return 0x0800u | pss[i];
    return 0;
}

/* RFC 8446 4.2.3                                                                            */
static const char *hsb__tls13_scheme_name(unsigned scheme)
{
    static const struct { unsigned scheme; const char *name; } names[] = {
        { 0x0403, "ecdsa_secp256r1_sha256" }, { 0x0503, "ecdsa_secp384r1_sha384" },
        { 0x0603, "ecdsa_secp521r1_sha512" }, { 0x0804, "rsa_pss_rsae_sha256" },
        { 0x0805, "rsa_pss_rsae_sha384" },    { 0x0806, "rsa_pss_rsae_sha512" }
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].scheme == scheme)
            return names[i].name;
    return "";
}

static bool hsb__tls13_choose_identity(hsb__tls13 *t, const hsb__hello *hello)
{
    const hsb__host *hosts[3];
    int count = hsb__security_hosts(t->security, t->name, hosts);
    for (int i = 0; i < count; i++) {
        const hsb__identity *const who[2] = { hosts[i]->ec, hosts[i]->rsa };
        for (int k = 0; k < 2; k++) {
            t->scheme = hsb__tls13_scheme_for(who[k], hello);
            t->shown = who[k];
            if (t->scheme)
                return true;
        }
    }
    return false;
}

/* The client's share of a group; absent: none.                                             */
static hsb_str hsb__tls13_share(const hsb__hello *hello, unsigned group)
{
    hsb_str rest = hello->shares, key;
    unsigned number;
    while (rest.len && hsb__hello_number(&rest, 2, &number) && hsb__hello_vector(&rest, 2, &key))
        if (number == group)
            return key;
    return hsb__text_absent();
}

/* Of curves only these two: the larger ones cost 14 and 27 times as much.  A client that offers
   the hybrid gets it, if the application has brought ML-KEM.                                */
static const unsigned hsb__tls13_groups[] = { HSB__GROUP_HYBRID, HSB__GROUP_X25519,
                                              HSB__GROUP_P256 };

/* Sets t->group and *share.  0, or the fault.  If *share is absent, a retry asks for it.   */
static int hsb__tls13_choose_group(hsb__tls13 *t, const hsb__hello *hello, hsb_str *share)
{
    t->group = 0;
    for (size_t i = t->security->ml_kem_768 ? 0 : 1; i < 3; i++) {
        const unsigned group = hsb__tls13_groups[i];
        if (!hsb__hello_has(hello->groups, group))
            continue;
        *share = hsb__tls13_share(hello, group);
        if (share->ptr || !t->group)
            t->group = group;
        if (share->ptr)
            return 0;
    }
    return t->group ? 0 : HSB__TLS_ERR_NOTHING_COMMON;
}

/* Digest of what a second ClientHello may not change (RFC 8446 4.1.2): all but the share,
   cookies, early data, padding and pre-shared keys.                                        */
static void hsb__tls13_digest(const hsb__hello *hello, unsigned char out[32])
{
    static const unsigned char may_change[] = { 21, 41, 42, 44, 51 };
    hsb_str rest = hello->extensions, value;
    br_sha256_context hash;
    unsigned type;
    br_sha256_init(&hash);
    br_sha256_update(&hash, hello->fixed.ptr, hello->fixed.len);
    while (rest.len) {
        const char *from = rest.ptr;
        if (!hsb__hello_number(&rest, 2, &type) || !hsb__hello_vector(&rest, 2, &value))
            break;
        if (type > 255 || !memchr(may_change, (int)type, sizeof may_change))
            br_sha256_update(&hash, from, (size_t)(rest.ptr - from));
    }
    br_sha256_out(&hash, out);
}

/* --- the key exchange --------------------------------------------------------------------- */

/* X25519 (RFC 7748): 32 random bytes are a private key; the result may not be zero (RFC 8446
   7.4.2).  False: the client's point is of small order.                                    */
static bool hsb__tls13_x25519(const br_ec_impl *ec, const unsigned char random[32],
                              hsb_str peer, unsigned char *own, unsigned char secret[32])
{
    unsigned zero = 0;
    ec->mulgen(own, random, 32, BR_EC_curve25519);
    memcpy(secret, peer.ptr, 32);
    if (!ec->mul(secret, 32, random, 32, BR_EC_curve25519))
        return false;
    for (size_t i = 0; i < 32; i++)
        zero |= secret[i];
    return HSB__PUBLIC(zero) != 0;
}

/* P-256: the secret is the x coordinate.  False: the client's point is not on the curve.   */
static bool hsb__tls13_p256(const br_ec_impl *ec, const unsigned char random[32], hsb_str peer,
                            unsigned char *own, unsigned char secret[32])
{
    unsigned char private_key[BR_EC_KBUF_PRIV_MAX_SIZE], point[65];
    br_hmac_drbg_context generator;
    br_ec_private_key key;
    br_hmac_drbg_init(&generator, &br_sha256_vtable, random, 32);
    br_ec_keygen(&generator.vtable, ec, &key, private_key, BR_EC_secp256r1);
    br_ec_compute_pub(ec, NULL, own, &key);
    memcpy(point, peer.ptr, sizeof point);
    const bool ok = ec->mul(point, sizeof point, key.x, key.xlen, BR_EC_secp256r1) != 0;
    memcpy(secret, point + 1, 32);
    hsb__memory_wipe(&generator, sizeof generator);
    hsb__memory_wipe(private_key, sizeof private_key);
    hsb__memory_wipe(point, sizeof point);
    return ok;
}

/* ML-KEM-768 beside X25519 (draft-ietf-tls-ecdhe-mlkem): the client's encapsulation key and
   point, our ciphertext and point, the two secrets, each in this order.                     */
static bool hsb__tls13_hybrid(const hsb__tls13 *t, const unsigned char random[32], hsb_str peer,
                              unsigned char *own, unsigned char secret[64])
{
    const hsb_security *s = t->security;
    return s->ml_kem_768((const uint8_t *)peer.ptr, own, secret, s->ml_kem_user) &&
           hsb__tls13_x25519(s->crypto.ec, random, hsb__text_after(peer, HSB__ML_KEM_KEY),
                             own + HSB__ML_KEM_CIPHERTEXT, secret + 32);
}

/* A key exchange: our share, and the secret.                                                */
typedef struct hsb__exchange {
    unsigned char share[HSB__SHARE_MAX], secret[64];
    size_t        share_len, secret_len;
} hsb__exchange;

/* 0, or BR_ERR_* and the like.                                                              */
static int hsb__tls13_exchange(const hsb__tls13 *t, hsb_str peer, hsb__exchange *out)
{
    const bool p256 = t->group == HSB__GROUP_P256, hybrid = t->group == HSB__GROUP_HYBRID;
    const br_ec_impl *ec = t->security->crypto.ec;
    unsigned char random[32];
    bool ok;
    out->share_len = p256 ? 65 : hybrid ? HSB__SHARE_MAX : 32;
    out->secret_len = hybrid ? 64 : 32;
    if (peer.len != (p256 ? 65u : hybrid ? HSB__ML_KEM_KEY + 32u : 32u) ||
        (p256 && peer.ptr[0] != 4))
        return HSB__TLS_ERR_SHARE;
    if (!hsb__os_entropy(random, sizeof random))
        return BR_ERR_NO_RANDOM;
    if (hybrid)
        ok = hsb__tls13_hybrid(t, random, peer, out->share, out->secret);
    else if (p256)
        ok = hsb__tls13_p256(ec, random, peer, out->share, out->secret);
    else
        ok = hsb__tls13_x25519(ec, random, peer, out->share, out->secret);
    hsb__memory_wipe(random, sizeof random);
    return ok ? 0 : HSB__TLS_ERR_SHARE;
}

/* --- our flight ---------------------------------------------------------------------------- */

/* RFC 8446 D.4: for boxes in the middle that know 1.2 only; once.                            */
static bool hsb__tls13_send_ccs(hsb__tls13 *t, const hsb__hello *hello)
{
    static const unsigned char one = 1;
    if (t->ccs_sent || !hello->session_id.len)
        return true;
    t->ccs_sent = true;
    hsb__record_flush(t->record);
    if (!hsb__record_put(t->record, HSB__RECORD_CCS, &one, 1))
        return false;
    hsb__record_flush(t->record);
    return true;
}

/* ServerHello, and HelloRetryRequest, which is one with a random of its own (RFC 8446 4.1.3). */
static bool hsb__tls13_send_hello(hsb__tls13 *t, const hsb__hello *hello,
                                  const unsigned char random[32], const unsigned char *share,
                                  size_t share_len)
{
    hsb__wire w;
    const size_t message = hsb__shake13_open(t, &w, 2);
    hsb__wire_number(&w, 2, BR_TLS12);
    hsb__wire_put(&w, random, 32);
    hsb__wire_vector(&w, 1, hello->session_id.ptr, hello->session_id.len);
    hsb__wire_number(&w, 2, t->suite->number);
    hsb__wire_number(&w, 1, 0);
    const size_t extensions = hsb__wire_open(&w, 2);
    hsb__wire_extension(&w, 43, 2, HSB__TLS13);
    if (share) {
        hsb__wire_number(&w, 2, 51);
        const size_t entry = hsb__wire_open(&w, 2);
        hsb__wire_number(&w, 2, t->group);
        hsb__wire_vector(&w, 2, share, share_len);
        hsb__wire_close(&w, entry, 2);
    } else {
        hsb__wire_extension(&w, 51, 2, t->group);
    }
    if (t->resumed)
        hsb__wire_extension(&w, 41, 2, t->psk);
    hsb__wire_close(&w, extensions, 2);
    const bool ok = hsb__shake13_close(t, &w, message);
    hsb__record_flush(t->record);
    return ok && hsb__tls13_send_ccs(t, hello);
}

/* RFC 8446 4.1.4                                                                            */
static int hsb__tls13_ask_again(hsb__tls13 *t, const hsb__hello *hello)
{
    static const unsigned char random[32] = {
        0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65,
        0xB8, 0x91, 0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2,
        0xC8, 0xA8, 0x33, 0x9C
    };
    t->retried = true;
    hsb__tls13_digest(hello, t->first_hello);
    hsb__transcript_restart(&t->transcript);
    if (!hsb__tls13_send_hello(t, hello, random, NULL, 0))
        return HSB__TLS_ERR_MEMORY;
    t->state = HSB__WAIT_HELLO_AGAIN;
    return 0;
}

static bool hsb__tls13_send_extensions(hsb__tls13 *t, const hsb__hello *hello)
{
    hsb__wire w;
    const size_t message = hsb__shake13_open(t, &w, 8);
    const size_t extensions = hsb__wire_open(&w, 2);
    if (t->alpn) {
        const char *name = t->security->alpn[t->alpn - 1];
        hsb__wire_number(&w, 2, 16);
        const size_t value = hsb__wire_open(&w, 2), list = hsb__wire_open(&w, 2);
        hsb__wire_vector(&w, 1, name, strlen(name));
        hsb__wire_close(&w, list, 2);
        hsb__wire_close(&w, value, 2);
    }
    if (hello->record_limit)            /* RFC 8449 4: what we take, its type byte included  */
        hsb__wire_extension(&w, 28, 2, HSB__RECORD_MOST + 1);
    hsb__wire_close(&w, extensions, 2);
    return hsb__shake13_close(t, &w, message);
}

/* What a client may sign with, and what its chain may be signed with: >>trust verifies no
   certificate with RSASSA-PSS (RFC 8446 4.2.3).                                             */
static const uint16_t hsb__tls13_schemes[] = { 0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806 };
static const uint16_t hsb__tls13_chain_schemes[] = { 0x0403, 0x0503, 0x0603,
                                                     0x0401, 0x0501, 0x0601 };

static void hsb__tls13_put_schemes(hsb__wire *w, unsigned type, const uint16_t *schemes,
                                   size_t count)
{
    hsb__wire_number(w, 2, type);
    const size_t value = hsb__wire_open(w, 2), list = hsb__wire_open(w, 2);
    for (size_t i = 0; i < count; i++)
        hsb__wire_number(w, 2, schemes[i]);
    hsb__wire_close(w, list, 2);
    hsb__wire_close(w, value, 2);
}

static bool hsb__tls13_send_request(hsb__tls13 *t)
{
    const hsb__names *names = &t->security->authorities;
    hsb__wire w;
    const size_t message = hsb__shake13_open(t, &w, 13);
    hsb__wire_number(&w, 1, 0);
    const size_t extensions = hsb__wire_open(&w, 2);
    hsb__tls13_put_schemes(&w, 13, hsb__tls13_schemes, 6);
    hsb__tls13_put_schemes(&w, 50, hsb__tls13_chain_schemes, 6);
    hsb__wire_number(&w, 2, 47);
    const size_t value = hsb__wire_open(&w, 2), list = hsb__wire_open(&w, 2);
    for (size_t i = 0; i < names->count; i++)
        hsb__wire_vector(&w, 2, names->list[i].data, names->list[i].len);
    hsb__wire_close(&w, list, 2);
    hsb__wire_close(&w, value, 2);
    hsb__wire_close(&w, extensions, 2);
    return hsb__shake13_close(t, &w, message);
}

static bool hsb__tls13_send_certificate(hsb__tls13 *t)
{
    const hsb__chain *chain = &t->shown->chain;
    hsb__wire w;
    const size_t message = hsb__shake13_open(t, &w, 11);
    hsb__wire_number(&w, 1, 0);
    const size_t list = hsb__wire_open(&w, 3);
    for (size_t i = 0; i < chain->count; i++) {
        hsb__wire_vector(&w, 3, chain->certs[i].data, chain->certs[i].data_len);
        hsb__wire_number(&w, 2, 0);
    }
    hsb__wire_close(&w, list, 3);
    return hsb__shake13_close(t, &w, message);
}

/* RFC 8446 4.4.3: the digest that a CertificateVerify signs.                                */
static void hsb__tls13_signed(const hsb__tls13 *t, const char *context, const br_hash_class *hash,
                              unsigned char digest[64])
{
    unsigned char spaces[64], messages[HSB__HASH_MAX];
    br_hash_compat_context h;
    memset(spaces, ' ', sizeof spaces);
    hsb__transcript_hash(&t->transcript, messages);
    hash->init(&h.vtable);
    hash->update(&h.vtable, spaces, sizeof spaces);
    hash->update(&h.vtable, context, strlen(context) + 1);
    hash->update(&h.vtable, messages, hsb__hash_len(t->suite->hash));
    hash->out(&h.vtable, digest);
}

/* The hash of a scheme of ours: its second digit for ECDSA, its last one for PSS.           */
static const br_hash_class *hsb__tls13_scheme_hash(unsigned scheme)
{
    const unsigned hash = scheme >> 8 == 8 ? scheme & 0xFF : scheme >> 8;
    return hash == 6 ? &br_sha512_vtable : hash == 5 ? &br_sha384_vtable : &br_sha256_vtable;
}

static bool hsb__tls13_send_verify(hsb__tls13 *t)
{
    const br_hash_class *hash = hsb__tls13_scheme_hash(t->scheme);
    unsigned char digest[64], signature[HSB__KEY_RSA_MAX / 8];
    hsb__wire w;
    hsb__tls13_signed(t, "TLS 1.3, server CertificateVerify", hash, digest);
    const size_t len = hsb__choice_sign13(&t->security->crypto, t->shown, hash, digest, signature,
                                          sizeof signature);
    if (!len)
        return false;
    const size_t message = hsb__shake13_open(t, &w, 15);
    hsb__wire_number(&w, 2, t->scheme);
    hsb__wire_vector(&w, 2, signature, len);
    return hsb__shake13_close(t, &w, message);
}

static bool hsb__tls13_send_finished(hsb__tls13 *t)
{
    const br_hash_class *hash = t->suite->hash;
    unsigned char messages[HSB__HASH_MAX], mac[HSB__HASH_MAX];
    hsb__wire w;
    hsb__transcript_hash(&t->transcript, messages);
    hsb__secret_finished(hash, t->record->secrets.keys.out.secret, messages, mac);
    const size_t message = hsb__shake13_open(t, &w, 20);
    hsb__wire_put(&w, mac, hsb__hash_len(hash));
    return hsb__shake13_close(t, &w, message);
}

static void hsb__tls13_log_key(const hsb__tls13 *t, const char *label,
                               const unsigned char *secret)
{
    hsb__security_log_key(t->security, label, t->client_random, secret,
                          hsb__hash_len(t->suite->hash));
}

/* Keys of the handshake, both ways, from the secret of the key exchange.                    */
static void hsb__tls13_enter_handshake(hsb__tls13 *t, const unsigned char *shared, size_t len)
{
    hsb__record *r = t->record;
    const br_hash_class *hash = t->suite->hash;
    hsb__secret_next_stage(hash, t->secret, shared, len, t->secret);
    hsb__secret_derive(&t->transcript, t->secret, "c hs traffic", r->secrets.keys.in.secret);
    hsb__secret_derive(&t->transcript, t->secret, "s hs traffic", r->secrets.keys.out.secret);
    hsb__keys_derive(&r->secrets.keys.in, t->suite);
    hsb__keys_derive(&r->secrets.keys.out, t->suite);
    r->protect_in = r->protect_out = HSB__BY_KEYS;
    hsb__tls13_log_key(t, "CLIENT_HANDSHAKE_TRAFFIC_SECRET", r->secrets.keys.in.secret);
    hsb__tls13_log_key(t, "SERVER_HANDSHAKE_TRAFFIC_SECRET", r->secrets.keys.out.secret);
}

/* Right after our Finished we send with the application's keys; the client's come later.    */
static void hsb__tls13_enter_application(hsb__tls13 *t)
{
    hsb__record *r = t->record;
    hsb__record_flush(r);
    hsb__secret_next_stage(t->suite->hash, t->secret, NULL, 0, t->secret);
    hsb__secret_derive(&t->transcript, t->secret, "c ap traffic", t->client_data);
    hsb__secret_derive(&t->transcript, t->secret, "s ap traffic", r->secrets.keys.out.secret);
    hsb__keys_derive(&r->secrets.keys.out, t->suite);
    hsb__tls13_log_key(t, "CLIENT_TRAFFIC_SECRET_0", t->client_data);
    hsb__tls13_log_key(t, "SERVER_TRAFFIC_SECRET_0", r->secrets.keys.out.secret);
}

/* All of our flight has to fit, however long the chain and the list of authorities are.      */
static bool hsb__tls13_make_room(hsb__tls13 *t)
{
    size_t size = HSB__RECORD_LEAST + (t->ask ? t->security->authorities.bytes : 0);
    for (size_t i = 0; t->shown && i < t->shown->chain.count; i++)
        size += t->shown->chain.certs[i].data_len + 8;
    size += (size / t->record->limit + 1) * HSB__RECORD_OVERHEAD;
    hsb__record_release_out(t->record);
    return hsb__record_get_out(t->record, size > HSB__RECORD_OUT ? size : HSB__RECORD_OUT);
}

/* ServerHello to Finished.                                                                   */
static int hsb__tls13_answer(hsb__tls13 *t, const hsb__hello *hello, hsb_str share)
{
    unsigned char random[32];
    hsb__exchange x;
    int error = hsb__tls13_exchange(t, share, &x);
    if (!error && !hsb__os_entropy(random, sizeof random))
        error = BR_ERR_NO_RANDOM;
    if (error) {
        hsb__memory_wipe(&x, sizeof x);
        return error;
    }
    if (!t->resumed)
        hsb__secret_first_stage(t->suite->hash, NULL, 0, t->secret);
    bool ok = hsb__tls13_make_room(t) &&
              hsb__tls13_send_hello(t, hello, random, x.share, x.share_len);
    hsb__tls13_enter_handshake(t, x.secret, x.secret_len);
    hsb__memory_wipe(&x, sizeof x);
    const bool asks = t->ask && !t->resumed;
    ok = ok && hsb__tls13_send_extensions(t, hello) && (!asks || hsb__tls13_send_request(t)) &&
         (t->resumed || hsb__tls13_send_certificate(t));
    if (ok && !t->resumed && !hsb__tls13_send_verify(t))
        return HSB__TLS_ERR_SIGN;
    ok = ok && hsb__tls13_send_finished(t);
    hsb__tls13_enter_application(t);
    t->state = asks ? HSB__WAIT_CERTIFICATE : HSB__WAIT_FINISHED;
    return ok ? 0 : HSB__TLS_ERR_MEMORY;
}

/* RFC 8446 9.2: what must be there; 4.1.2: what else must hold.                               */
static int hsb__tls13_check_hello(hsb__tls13 *t, const hsb__hello *hello)
{
    unsigned char digest[32];
    if (hello->compressions.len != 1 || hello->compressions.ptr[0] != 0)
        return HSB__TLS_ERR_ILLEGAL;
    if (!hello->groups.ptr || !hello->shares.ptr ||
        (hello->psks.ptr ? !hello->has_psk_modes : !hello->signatures.ptr))
        return HSB__TLS_ERR_MISSING;
    if (hello->protocols.ptr && t->security->alpn_count && !t->alpn)
        return HSB__TLS_ERR_ALPN;
    if (t->state != HSB__WAIT_HELLO_AGAIN)
        return 0;
    hsb__tls13_digest(hello, digest);
    return memcmp(digest, t->first_hello, 32) == 0 && !hello->early_data ? 0 : HSB__TLS_ERR_ILLEGAL;
}

/* A ClientHello whose supported_versions has TLS 1.3.                                         */
static int hsb__tls13_hello(hsb__tls13 *t, const hsb__hello *hello)
{
    hsb_str share = hsb__text_absent();
    const bool again = t->state == HSB__WAIT_HELLO_AGAIN;
    const unsigned asked = t->group;
    const bool named =
        !hello->server_name.ptr || hsb__choice_read_name(hello->server_name, t->name);
    t->alpn = hsb__choice_alpn(t->security, hello);
    t->may_resume = named && hello->psk_dhe;
    hsb__choice_binding(HSB__TLS13, t->name, t->alpn, t->ask, t->require, t->binding);
    int error = hsb__tls13_check_hello(t, hello);
    if (error)
        return error;
    const hsb__suite13 *suite = hsb__tls13_choose_suite(t, hello);
    if (!suite)
        return HSB__TLS_ERR_NOTHING_COMMON;
    error = hsb__tls13_choose_group(t, hello, &share);
    if (error)
        return error;
    if (again && (suite != t->suite || !share.ptr || t->group != asked))
        return HSB__TLS_ERR_ILLEGAL;
    if (!again)
        hsb__transcript_start(&t->transcript, suite->hash);
    t->suite = t->record->suite = suite;
    memcpy(t->client_random, hello->fixed.ptr + 2, sizeof t->client_random);
    t->early = hello->early_data ? HSB__TLS13_EARLY : t->early;
    if (hello->record_limit && hello->record_limit - 1 < HSB__RECORD_MOST)
        t->record->limit = hello->record_limit - 1;
    if (share.ptr && t->may_resume)
        error = hsb__psk_resume(t, hello);
    if (!error && !t->resumed && !hsb__tls13_choose_identity(t, hello))
        error = hello->signatures.ptr ? HSB__TLS_ERR_NOTHING_COMMON : HSB__TLS_ERR_MISSING;
    if (error)
        return error;
    hsb__transcript_add(&t->transcript, hello->message.ptr, hello->message.len);
    return share.ptr ? hsb__tls13_answer(t, hello, share) : hsb__tls13_ask_again(t, hello);
}

/* --- the client's flight -------------------------------------------------------------------- */

/* RFC 8446 4.4.2: the chain, each certificate with extensions that mean nothing to us.         */
static int hsb__tls13_read_chain(hsb__tls13 *t, hsb_str list)
{
    hsb_str cert, extensions;
    hsb__verify_start_chain(&t->verify);
    while (list.len) {
        if (!hsb__hello_vector(&list, 3, &cert) || !hsb__hello_vector(&list, 2, &extensions) ||
            !cert.len)
            return BR_ERR_BAD_PARAM;
        hsb__verify_start_cert(&t->verify, (uint32_t)cert.len);
        hsb__verify_append(&t->verify, (const unsigned char *)cert.ptr, cert.len);
        hsb__verify_end_cert(&t->verify);
    }
    const int error = (int)hsb__verify_end_chain(&t->verify);
    return t->verify.out_of_memory ? HSB__TLS_ERR_MEMORY : error;
}

static int hsb__tls13_take_certificate(hsb__tls13 *t, hsb_str body)
{
    hsb_str context, list;
    if (!hsb__hello_vector(&body, 1, &context) || !hsb__hello_vector(&body, 3, &list) || body.len)
        return BR_ERR_BAD_PARAM;
    if (context.len)
        return HSB__TLS_ERR_ILLEGAL;
    if (!list.len && t->require)
        return HSB__TLS_ERR_NO_CERTIFICATE;
    t->state = list.len ? HSB__WAIT_VERIFY : HSB__WAIT_FINISHED;
    return list.len ? hsb__tls13_read_chain(t, list) : 0;
}

static bool hsb__tls13_signature_fits(hsb__tls13 *t, unsigned scheme, hsb_str signature)
{
    const hsb__crypto *crypto = &t->security->crypto;
    const br_hash_class *hash = hsb__tls13_scheme_hash(scheme);
    const br_x509_pkey *key = hsb__verify_key(&t->verify);
    unsigned char digest[64];
    if (!key)
        return false;
    hsb__tls13_signed(t, "TLS 1.3, client CertificateVerify", hash, digest);
    if (scheme >> 8 == 8)
        return key->key_type == BR_KEYTYPE_RSA &&
               hsb__pss_verify(crypto->rsa_public, &key->key.rsa, hash, digest,
                               (const unsigned char *)signature.ptr, signature.len);
    return key->key_type == BR_KEYTYPE_EC &&
           key->key.ec.curve == (int)(scheme >> 8) - 4 + BR_EC_secp256r1 &&
           crypto->ecdsa_verify(crypto->ec, digest, hsb__hash_len(hash), &key->key.ec,
                                signature.ptr, signature.len);
}

/* RFC 8446 4.4.3                                                                               */
static int hsb__tls13_take_verify(hsb__tls13 *t, hsb_str body)
{
    hsb_str signature;
    unsigned scheme;
    bool offered = false;
    if (!hsb__hello_number(&body, 2, &scheme) || !hsb__hello_vector(&body, 2, &signature) ||
        body.len)
        return BR_ERR_BAD_PARAM;
    for (size_t i = 0; i < 6; i++)
        offered = offered || hsb__tls13_schemes[i] == scheme;
    if (!offered)
        return HSB__TLS_ERR_ILLEGAL;
    if (!hsb__tls13_signature_fits(t, scheme, signature))
        return BR_ERR_BAD_SIGNATURE;
    t->state = HSB__WAIT_FINISHED;
    return 0;
}

static int hsb__tls13_take_finished(hsb__tls13 *t, hsb_str body)
{
    hsb__record *r = t->record;
    const br_hash_class *hash = t->suite->hash;
    unsigned char messages[HSB__HASH_MAX], mac[HSB__HASH_MAX];
    if (body.len != hsb__hash_len(hash))
        return BR_ERR_BAD_PARAM;
    hsb__transcript_hash(&t->transcript, messages);
    hsb__secret_finished(hash, r->secrets.keys.in.secret, messages, mac);
    const bool fits = hsb__memory_same(mac, body.ptr, body.len);
    hsb__memory_wipe(mac, sizeof mac);
    if (!fits)
        return BR_ERR_BAD_FINISHED;
    memcpy(r->secrets.keys.in.secret, t->client_data, sizeof r->secrets.keys.in.secret);
    hsb__keys_derive(&r->secrets.keys.in, t->suite);
    t->state = HSB__WAIT_NOTHING;
    return 0;
}

/* One whole message, without its header.                                                        */
static int hsb__tls13_take_message(hsb__tls13 *t, unsigned type, hsb_str body)
{
    if (t->state == HSB__WAIT_CERTIFICATE && type == 11)
        return hsb__tls13_take_certificate(t, body);
    if (t->state == HSB__WAIT_VERIFY && type == 15)
        return hsb__tls13_take_verify(t, body);
    if (t->state == HSB__WAIT_FINISHED && type == 20)
        return hsb__tls13_take_finished(t, body);
    return BR_ERR_UNEXPECTED;
}

/* RFC 8446 5.1: messages may share records and be spread over several; but where the keys
   change, a message must end its record.                                                        */
static int hsb__tls13_take_handshake(hsb__tls13 *t, const unsigned char *bytes, size_t len)
{
    if (!len)
        return BR_ERR_UNEXPECTED;
    if (!hsb__buffer_append(&t->message, bytes, len))
        return HSB__TLS_ERR_MEMORY;
    for (;;) {
        hsb_str rest = hsb__text_make(hsb__buffer_data(&t->message), hsb__buffer_len(&t->message));
        const char *from = rest.ptr;
        hsb_str body;
        unsigned type, size;
        if (rest.len < 4)
            return rest.len && t->state == HSB__WAIT_NOTHING ? BR_ERR_UNEXPECTED : 0;
        if (t->state == HSB__WAIT_NOTHING)
            return BR_ERR_UNEXPECTED;
        hsb__hello_number(&rest, 1, &type);
        hsb__hello_number(&rest, 3, &size);
        if (size > (t->state == HSB__WAIT_CERTIFICATE ? HSB__CHAIN_BYTES : HSB__TLS13_MESSAGE))
            return HSB__TLS_ERR_LARGE;
        if (!hsb__hello_bytes(&rest, size, &body))
            return 0;
        int error = hsb__tls13_take_message(t, type, body);
        if (error)
            return error;
        hsb__transcript_add(&t->transcript, from, 4 + (size_t)size);
        hsb__buffer_taken(&t->message, 4 + (size_t)size);
        if (t->state == HSB__WAIT_NOTHING)
            hsb__secret_derive(&t->transcript, t->secret, "res master", t->secret);
    }
}

/* A record of the client's flight that is no alert: messages, or a ChangeCipherSpec.  0, or the
   fault.                                                                                        */
static int hsb__tls13_take_frame(hsb__tls13 *t, const hsb__frame *f)
{
    switch (f->type) {
    case HSB__RECORD_HANDSHAKE:
        return hsb__tls13_take_handshake(t, f->data, f->len);
    case HSB__RECORD_CCS:                       /* RFC 8446 5: exactly this, and dropped         */
        return f->clear && f->len == 1 && f->data[0] == 1 && ++t->ccs <= HSB__TLS13_CCS &&
               !hsb__buffer_len(&t->message) ? 0 : BR_ERR_UNEXPECTED;
    default:
        return BR_ERR_UNEXPECTED;
    }
}

static void hsb__tls13_end(hsb__tls13 *t)
{
    hsb__pool *pool = t->pool;
    const size_t size = t->size;
    hsb__verify_end(&t->verify);
    hsb__buffer_release(&t->message);
    hsb__memory_wipe(t, sizeof *t);
    hsb__pool_put(pool, t, size);
}

/* ===== >>tls =====================================================================
   Purpose  TLS for one connection: bytes of the socket in, plaintext out, and back.  Knows
            no HTTP, owns no socket
   Uses     >>memory >>text >>buffer >>error >>address >>x509 >>trust >>security >>hello
            >>choice >>verify >>record >>tls12 >>shake13 >>resume13 >>tls13
   Names    hsb__tls_*
   Tests    tests/unit/tls*.c, tests/tls

     hsb__tls_receive     bytes of the socket -> hsb__tls_plain
     hsb__tls_writable    plaintext -> hsb__tls_records for the socket
   No further byte is taken before the plaintext was, and no space for plaintext is offered
   before the records were sent: that is the back-pressure.

   A connection collects its ClientHello, which decides the version.  >>tls13 or BearSSL's
   engine (>>tls12) does the handshake, and gives its memory back.  What comes after that is
   the same for both: hsb__record, and this section.                                     */

typedef struct hsb__tls hsb__tls;
typedef struct hsb__tls_pool {
    hsb__memory    *memory;
    hsb__pool      *blocks;
    hsb__tls12_pool engines;
} hsb__tls_pool;

typedef enum hsb__tls_phase {
    HSB__TLS_HANDSHAKE,
    HSB__TLS_OPEN,
    HSB__TLS_DEAD       /* failed, or closed both ways: records may be left to send     */
} hsb__tls_phase;

enum {
    HSB__TLS_QUIET = 64,                /* records in a row that bring nothing          */
    HSB__TLS_HANDSHAKE_BYTES = 1 << 18
};

struct hsb__tls {
    size_t           size;              /* of this block                                */
    hsb__tls_pool   *pool;
    hsb_security    *security;
    hsb__record      record;
    hsb__tls12      *tls12;             /* in a handshake of TLS 1.2                    */
    hsb__tls13      *tls13;             /* in a handshake of TLS 1.3                    */
    hsb__buffer      hello;             /* the ClientHello, until it is whole           */
    hsb_str          plain;             /* decrypted, and not taken yet                 */
    const char      *own;               /* bytes of ours to send, past the records      */
    size_t           own_len;
    hsb_certificate *client;            /* verified, and the handshake is complete      */
    char            *server_name;       /* what info.server_name points at, if not ""    */
    size_t           server_name_size;  /* of that block                                */
    hsb_tls_info     info;              /* version 0: not yet                           */
    int              error;             /* BR_ERR_*, HSB__TLS_ERR_*; 0: none            */
    uint32_t         handshake_bytes;
    unsigned char    phase;             /* hsb__tls_phase                               */
    unsigned char    quiet;             /* see HSB__TLS_QUIET                           */
    unsigned char    update_len;        /* bytes of a KeyUpdate, in update              */
    unsigned char    update[5];
    bool             ask, require;      /* for a client certificate                     */
    bool             update_owed;       /* the client asked us to change our keys       */
    bool             shut, peer_shut;   /* close_notify: sent, or came                  */
};

/* --- what went wrong ------------------------------------------------------------------ */
static const hsb__fault *hsb__tls_fault_of(int code)
{
    static const hsb__fault faults[] = {
        { BR_ERR_BAD_PARAM,            50, "malformed handshake message" },
        { BR_ERR_BAD_STATE,            80, "internal error" },
        { BR_ERR_UNSUPPORTED_VERSION,  70, "not TLS 1.2" },
        { BR_ERR_BAD_VERSION,          70, "record of another TLS version" },
        { BR_ERR_BAD_LENGTH,           22, "record of an impossible length" },
        { BR_ERR_TOO_LARGE,            22, "record too large" },
        { BR_ERR_BAD_MAC,              20, "record does not decrypt: altered, or another key" },
        { BR_ERR_NO_RANDOM,            80, "no randomness" },
        { BR_ERR_UNKNOWN_TYPE,         10, "record of an unknown type" },
        { BR_ERR_UNEXPECTED,           10, "message out of order" },
        { BR_ERR_BAD_CCS,              10, "malformed ChangeCipherSpec" },
        { BR_ERR_BAD_ALERT,            50, "malformed alert" },
        { BR_ERR_BAD_HANDSHAKE,        50, "malformed handshake message" },
        { BR_ERR_OVERSIZED_ID,         50, "session ID too long" },
        { BR_ERR_BAD_FRAGLEN,          47, "malformed maximum fragment length" },
        { BR_ERR_BAD_SECRENEG,         40, "malformed renegotiation info" },
        { BR_ERR_LIMIT_EXCEEDED,       43, "client certificate: RSA key above 4096 bits" },
        { BR_ERR_BAD_FINISHED,         51, "handshake altered on its way" },
        { BR_ERR_RESUME_MISMATCH,      40, "resumed session does not fit" },
        { BR_ERR_INVALID_ALGORITHM,    40, "signature with an algorithm that was not offered" },
        { BR_ERR_BAD_SIGNATURE,        51, "client certificate: not signed with its key" },
        { BR_ERR_WRONG_KEY_USAGE,      43, "client certificate: its key may not sign" },
        { BR_ERR_NO_CLIENT_AUTH,       40, "client certificate: none was sent" },
        { HSB__TLS_ERR_MEMORY,         80, "out of memory" },
        { HSB__TLS_ERR_FLOOD,          10, "too many records without content" },
        { HSB__TLS_ERR_PLAIN,           0, "not TLS: plain HTTP" },
        { HSB__TLS_ERR_FOREIGN,        10, "not TLS: another protocol" },
        { HSB__TLS_ERR_PROTOCOLS,      50, "malformed list of protocols (ALPN)" },
        { HSB__TLS_ERR_POINTS,         47, "the client has no uncompressed points" },
        { HSB__TLS_ERR_LARGE,          22, "handshake message too large" },
        { HSB__TLS_ERR_NOTHING_COMMON, 40, "the client has no suite, group or signature of ours" },
        { HSB__TLS_ERR_SHARE,          47, "the client's key share is no point of its group" },
        { HSB__TLS_ERR_ILLEGAL,        47, "a value in a handshake message that may not be there" },
        { HSB__TLS_ERR_MISSING,       109, "ClientHello without an extension that TLS 1.3 needs" },
        { HSB__TLS_ERR_ALPN,          120, "the client speaks no protocol of ours (ALPN)" },
        { HSB__TLS_ERR_NO_CERTIFICATE, 116, "client certificate: none was sent" },
        { HSB__TLS_ERR_SIGN,           80, "our key does not sign" },
        { HSB__TLS_ERR_FALLBACK,       86, "the client fell back to an older TLS without need" },
        { HSB__TLS_ERR_VERSION,        70, "the client speaks no version of TLS of ours" },
        { HSB__TLS_ERR_BINDER,         51, "ticket without the key that belongs to it" }
    }, other = { 0, 80, "failure" };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i].code == code)
            return &faults[i];
    return code > BR_ERR_X509_OK && code < BR_ERR_RECV_FATAL_ALERT ? hsb__trust_fault(code)
                                                                    : &other;
}

/* RFC 5246 7.2, RFC 6066 9, RFC 7301 3.2, RFC 7507 3                                    */
static const char *hsb__tls_alert_text(int alert)
{
    switch (alert) {
    case 10:  return "unexpected message";
    case 20:  return "bad record MAC";
    case 22:  return "record overflow";
    case 40:  return "handshake failure";
    case 42:  return "bad certificate";
    case 43:  return "unsupported certificate";
    case 44:  return "certificate revoked";
    case 45:  return "certificate expired";
    case 46:  return "certificate unknown";
    case 47:  return "illegal parameter";
    case 48:  return "unknown certificate authority";
    case 49:  return "access denied";
    case 50:  return "decode error";
    case 51:  return "decrypt error";
    case 70:  return "protocol version";
    case 71:  return "insufficient security";
    case 80:  return "internal error";
    case 86:  return "inappropriate fallback";
    case 90:  return "user cancelled";
    case 100: return "no renegotiation";
    case 109: return "missing extension";
    case 112: return "unrecognized name";
    case 116: return "certificate required";
    case 120: return "no application protocol";
    default:  return "unknown alert";
    }
}

/* What was wrong, for an alert that the engine sent.                                    */
static const char *hsb__tls_refusal_text(int alert)
{
    switch (alert) {
    case 40:  return "the client has no suite, curve or signature of ours";
    case 70:  return "the client does not speak TLS 1.2";
    case 86:  return "the client fell back to an older TLS though it need not";
    case 120: return "the client has no protocol of ours (ALPN)";
    default:  return hsb__tls_alert_text(alert);
    }
}

static void hsb__tls_error_of_alert(int error, hsb_error *out)
{
    const int sent = error - BR_ERR_SEND_FATAL_ALERT, heard = error - BR_ERR_RECV_FATAL_ALERT;
    if (sent >= 0)
        hsb__error_set(out, HSB_ERR_TLS, 0, error, "TLS: %s", hsb__tls_refusal_text(sent));
    else
        hsb__error_set(out, HSB_ERR_TLS, 0, error, "TLS: the client ended it: %s (alert %d)",
                       hsb__tls_alert_text(heard), heard);
}

/* Why it is DEAD.  HSB_OK: closed cleanly, or still open.                               */
static void hsb__tls_error_of(const hsb__tls *t, hsb_error *out)
{
    const int e = t->error;
    const char *text = hsb__tls_fault_of(e)->text;
    hsb__error_clear(out);
    if (e == HSB__TLS_ERR_MEMORY)
        hsb__error_memory(out);
    else if (e == HSB__TLS_ERR_FLOOD)
        hsb__error_set(out, HSB_ERR_LIMIT, 0, 0, "TLS: %s", text);
    else if (e == HSB__TLS_ERR_PLAIN || e == HSB__TLS_ERR_FOREIGN)
        hsb__error_set(out, HSB_ERR_TLS, 0, BR_ERR_UNSUPPORTED_VERSION, "%s", text);
    else if (e >= BR_ERR_RECV_FATAL_ALERT && e < HSB__TLS_ERR_MEMORY)
        hsb__tls_error_of_alert(e, out);
    else if (e > BR_ERR_X509_OK && e < BR_ERR_RECV_FATAL_ALERT)
        hsb__verify_error(t->tls12 ? &t->tls12->verify : &t->tls13->verify, e, out);
    else if (e)
        hsb__error_set(out, HSB_ERR_TLS, 0, e, "TLS: %s", text);
    else if (t->phase == HSB__TLS_DEAD && !t->info.version)
        hsb__error_set(out, HSB_ERR_CLOSED, 0, 0, "TLS: the client left in the handshake");
}

/* --- the end of a connection ------------------------------------------------------------- */

/* error 0: closed cleanly.  RFC 8446 6.2: a fatal error is reported to the client by an alert,
   unless the client reported it.  The alert is protected like all else that is sent now.    */
static void hsb__tls_die(hsb__tls *t, int error)
{
    const bool alert_came = error >= BR_ERR_RECV_FATAL_ALERT && error < HSB__TLS_ERR_MEMORY;
    if (t->phase == HSB__TLS_DEAD)
        return;
    t->error = error;
    if (t->tls12 && t->tls12->verify.out_of_memory)
        t->error = HSB__TLS_ERR_MEMORY;
    const unsigned alert = hsb__tls_fault_of(t->error)->alert;
    if (t->tls12)
        hsb__tls12_lend_output(t->tls12);
    if (t->error && !alert_came && alert && !t->shut && !t->peer_shut)
        hsb__record_alert(&t->record, 2, alert);
    t->phase = HSB__TLS_DEAD;
    t->plain = hsb__text_absent();
}

/* Answers a client that used http:// for https://.                                       */
static void hsb__tls_answer_plain(hsb__tls *t)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\n"
        "Content-Type: text/plain\r\n"
        "Content-Length: 54\r\n"
        "Connection: close\r\n"
        "\r\n"
        "This port speaks HTTPS: the address begins https://.\r\n";
    hsb__tls_die(t, HSB__TLS_ERR_PLAIN);
    t->own = answer;
    t->own_len = sizeof answer - 1;
}

/* --- the end of a handshake ---------------------------------------------------------------
   A client is believed here and nowhere else: its chain verified, now or when the session
   began that it resumes, and the handshake is complete.                                   */
static int hsb__tls_believe(hsb__tls *t, hsb__verify *v, const char *name)
{
    if (t->ask && v->verified) {
        t->client = hsb__x509_describe(t->pool->memory, v->leaf.der, v->leaf.len);
        if (!t->client && hsb__x509_can_describe(v->leaf.der, v->leaf.len))
            return HSB__TLS_ERR_MEMORY;
        if (!t->client) {
            hsb__verify_fail(v, BR_ERR_X509_INVALID_VALUE, 1);
            return BR_ERR_X509_INVALID_VALUE;
        }
    } else if (t->require) {
        return BR_ERR_NO_CLIENT_AUTH;
    }
    if (name[0]) {
        t->server_name_size = strlen(name) + 1;
        t->server_name = hsb__pool_get(t->pool->blocks, &t->server_name_size);
        if (!t->server_name)
            return HSB__TLS_ERR_MEMORY;
        memcpy(t->server_name, name, strlen(name) + 1);
    }
    t->info.server_name = t->server_name ? t->server_name : "";
    t->info.client = t->client;
    t->phase = HSB__TLS_OPEN;
    return 0;
}

/* IANA's names; BearSSL's numbers of curves are those of the groups.                         */
static const char *hsb__tls_group_name(int group)
{
    return group == BR_EC_curve25519    ? "x25519"
           : group == BR_EC_secp256r1   ? "secp256r1"
           : group == HSB__GROUP_HYBRID ? "X25519MLKEM768" : "";
}

static void hsb__tls_complete12(hsb__tls *t)
{
    hsb__tls12 *e = t->tls12;
    br_ssl_engine_context *eng = &e->server.eng;
    char name[HSB__HOST_SIZE];
    if (!hsb__tls12_may_shed(e))
        return;                         /* its last records wait for room                    */
    int error = hsb__tls12_holds(e) ? 0 : BR_ERR_RESUME_MISMATCH;
    hsb__tls12_server_name(e, name);
    if (!error)
        error = hsb__tls_believe(t, &e->verify, name);
    if (!error && !hsb__tls12_shed(e))
        error = HSB__TLS_ERR_MEMORY;
    if (error) {
        t->phase = HSB__TLS_HANDSHAKE;
        hsb__tls_die(t, error);
        return;
    }
    t->info.version = br_ssl_engine_get_version(eng);
    t->info.suite = eng->session.cipher_suite;
    t->info.suite_name = hsb__suite_name(t->info.suite);
    t->info.group = e->resumed ? "" : hsb__tls_group_name(br_ssl_engine_get_ecdhe_curve(eng));
    t->info.signature = e->resumed ? "" : hsb__choice_scheme_name(e->shown, e->hash);
    t->info.alpn = br_ssl_engine_get_selected_protocol(eng);
    t->info.resumed = e->resumed;
    hsb__security_log_key(t->security, "CLIENT_RANDOM", eng->client_random,
                          eng->session.master_secret, sizeof eng->session.master_secret);
    t->tls12 = NULL;
    hsb__tls12_put(&t->pool->engines, e);
}

static void hsb__tls_complete13(hsb__tls *t)
{
    hsb__tls13 *h = t->tls13;
    int error = hsb__tls_believe(t, &h->verify, h->name);
    if (error) {
        hsb__tls_die(t, error);
        return;
    }
    t->info.version = HSB__TLS13;
    t->info.suite = h->suite->number;
    t->info.suite_name = h->suite->name;
    t->info.group = hsb__tls_group_name((int)h->group);
    t->info.signature = h->resumed ? "" : hsb__tls13_scheme_name(h->scheme);
    t->info.alpn = h->alpn ? t->security->alpn[h->alpn - 1] : NULL;
    t->info.resumed = h->resumed;
}

/* After whatever may have moved the engine.  0.6 can get stuck in two states, and they end
   here too: in 0 it neither takes nor gives; and SENDAPP alone is left when one record held
   two requests for renegotiation, of which it never reads the second.                     */
static void hsb__tls_advance12(hsb__tls *t)
{
    br_ssl_engine_context *eng = &t->tls12->server.eng;
    while (hsb__tls12_gather(t->tls12))
        ;
    const unsigned state = br_ssl_engine_current_state(eng);
    if (state == BR_SSL_CLOSED)                 /* error 0: the client's close_notify        */
        hsb__tls_die(t, br_ssl_engine_last_error(eng));
    else if (state == 0 || state == BR_SSL_SENDAPP)
        hsb__tls_die(t, BR_ERR_UNEXPECTED);
    else if (eng->application_data & 1)
        hsb__tls_complete12(t);
}

/* --- life -------------------------------------------------------------------------------- */
static void hsb__tls_pool_close(hsb__tls_pool *pool)
{
    hsb__tls12_pool_close(&pool->engines);
}

static void hsb__tls_release(hsb__tls_pool *pool, hsb__tls *t)
{
    if (!t)
        return;
    hsb_security *security = t->security;
    if (t->tls13)
        hsb__tls13_end(t->tls13);
    if (t->tls12) {
        t->record.classes.out = t->record.classes.in ? t->record.classes.out : NULL;
        hsb__tls12_put(&pool->engines, t->tls12);
    }
    hsb__record_close(&t->record);
    hsb__buffer_release(&t->hello);
    hsb__x509_forget(pool->memory, t->client);
    hsb__pool_put(pool->blocks, t->server_name, t->server_name_size);
    hsb__pool_put(pool->blocks, t, t->size);
    hsb__security_release(security);
}

/* NULL: no memory.  Retains security until release.                                        */
static hsb__tls *hsb__tls_open(hsb__tls_pool *pool, hsb_security *security, bool request,
                               bool require)
{
    size_t size = sizeof(hsb__tls);
    hsb__tls *t = hsb__pool_get(pool->blocks, &size);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->size = size;
    t->pool = pool;
    t->security = security;
    t->ask = request || require;
    t->require = require;
    t->hello.pool = pool->blocks;
    hsb__security_retain(security);
    hsb__record_open(&t->record, pool->memory, pool->blocks, &security->crypto);
    return t;
}

static hsb__tls_phase hsb__tls_phase_of(const hsb__tls *t)
{
    return (hsb__tls_phase)t->phase;
}

/* NULL before OPEN.  Good until release.                                                  */
static const hsb_tls_info *hsb__tls_info_of(const hsb__tls *t)
{
    return t->info.version ? &t->info : NULL;
}

static bool hsb__tls_peer_shut(const hsb__tls *t)
{
    return t->peer_shut;
}

/* After a step: empty blocks go back to the pool, and plaintext is copied out of the
   caller's bytes.  False: no memory for that.                                              */
static bool hsb__tls_sleep(hsb__tls *t)
{
    hsb__buffer *part = &t->record.part;
    const char *at = t->plain.ptr;
    if (t->record.out && t->record.sent == t->record.made && !t->record.open && !t->tls12)
        hsb__record_release_out(&t->record);
    if (t->plain.len && !(part->data && at >= part->data && at < part->data + part->size)) {
        char *copy = hsb__buffer_reserve(part, t->plain.len);
        if (!copy) {
            hsb__tls_die(t, HSB__TLS_ERR_MEMORY);
            return false;
        }
        memcpy(copy, at, t->plain.len);
        t->plain.ptr = copy;
    } else if (!t->plain.len && hsb__buffer_len(part) == 0) {
        hsb__buffer_release(part);
    }
    return true;
}

/* --- the ClientHello ------------------------------------------------------------------------ */

/* The version for a client: HSB__TLS13 or BR_TLS12.  0: none, or an attacker has talked the
   client out of a better one (RFC 7507 3).                                                    */
static unsigned hsb__tls_choose_version(const hsb__tls *t, const hsb__hello *hello, int *error)
{
    const hsb_tls_versions ours = t->security->versions;
    const bool has_13 = hsb__hello_has(hello->versions, HSB__TLS13);
    const bool has_12 = hello->versions.ptr ? hsb__hello_has(hello->versions, BR_TLS12)
                                            : hello->version >= BR_TLS12;
    *error = HSB__TLS_ERR_VERSION;
    if (has_13 && ours != HSB_TLS_1_2_ONLY)
        return HSB__TLS13;
    if (!has_12 || ours == HSB_TLS_1_3_ONLY)
        return 0;
    *error = HSB__TLS_ERR_FALLBACK;
    return ours != HSB_TLS_1_2_ONLY && hsb__hello_has(hello->suites, 0x5600) ? 0 : BR_TLS12;
}

static void hsb__tls_start12(hsb__tls *t, const hsb__hello *hello, hsb_str message)
{
    hsb__tls12 *e = hsb__tls12_get(&t->pool->engines);
    t->tls12 = e;
    if (!e) {
        hsb__tls_die(t, HSB__TLS_ERR_MEMORY);
        return;
    }
    e->record = &t->record;
    hsb__tls12_start(e, t->pool->blocks, t->security, t->ask, t->require);
    if (!hsb__record_get_out(&t->record, HSB__RECORD_OUT)) {
        hsb__tls12_put(&t->pool->engines, e);
        t->tls12 = NULL;
        hsb__tls_die(t, HSB__TLS_ERR_MEMORY);
        return;
    }
    t->record.sent = t->record.made = HSB__TLS12_INPUT;
    if (!hsb__tls12_reset(e, t->record.out, HSB__TLS12_INPUT, t->record.out + HSB__TLS12_INPUT,
                          t->record.out_size - HSB__TLS12_INPUT)) {
        hsb__tls_die(t, BR_ERR_NO_RANDOM);
        return;
    }
    hsb__tls12_take_hello(e, message, hello, t->security->versions == HSB_TLS_1_2_AND_1_3);
    hsb__tls_advance12(t);
}

static hsb__tls13 *hsb__tls_new13(hsb__tls *t)
{
    size_t size = sizeof(hsb__tls13);
    hsb__tls13 *h = hsb__pool_get(t->pool->blocks, &size);
    if (!h)
        return NULL;
    memset(h, 0, sizeof *h);
    h->size = size;
    h->record = &t->record;
    h->pool = h->message.pool = h->verify.pool = t->pool->blocks;
    h->security = t->security;
    h->verify.security = t->security;
    h->ask = t->ask;
    h->require = t->require;
    return h;
}

/* All of a ClientHello is in t->hello.                                                       */
static void hsb__tls_take_hello(hsb__tls *t)
{
    const hsb_str message = hsb__text_make(hsb__buffer_data(&t->hello), hsb__buffer_len(&t->hello));
    hsb__hello hello;
    int error = BR_ERR_BAD_PARAM;
    unsigned version = 0;
    if (hsb__hello_read(&hello, message.ptr, message.len))
        version = hsb__tls_choose_version(t, &hello, &error);
    else if (hello.fault)
        error = hello.fault == HSB__HELLO_POINTS ? HSB__TLS_ERR_POINTS : HSB__TLS_ERR_PROTOCOLS;
    else if (hello.illegal)
        error = HSB__TLS_ERR_ILLEGAL;
    if (version == HSB__TLS13) {
        if (!t->tls13)
            t->tls13 = hsb__tls_new13(t);
        error = t->tls13 ? hsb__tls13_hello(t->tls13, &hello) : HSB__TLS_ERR_MEMORY;
    } else if (version) {
        error = t->tls13 ? HSB__TLS_ERR_ILLEGAL : 0;    /* a second hello that takes it back   */
        if (!error)
            hsb__tls_start12(t, &hello, message);
    }
    if (error)
        hsb__tls_die(t, error);
    hsb__buffer_release(&t->hello);
}

/* A record while the ClientHello is awaited: in the clear.                                   */
static int hsb__tls_collect_hello(hsb__tls *t, const hsb__frame *f)
{
    unsigned type, size;
    const bool between = hsb__buffer_len(&t->hello) == 0;      /* messages, not in one       */
    if (f->type == HSB__RECORD_CCS && t->tls13 && between)
        return hsb__tls13_take_frame(t->tls13, f);
    if (f->type == HSB__RECORD_DATA && t->tls13 && between && f->len <= t->tls13->early) {
        t->tls13->early -= f->len;
        return 0;
    }
    if (f->type != HSB__RECORD_HANDSHAKE || !f->len)
        return BR_ERR_UNEXPECTED;
    if (hsb__buffer_len(&t->hello) + f->len > HSB__HELLO_MAX)
        return HSB__TLS_ERR_LARGE;
    if (!hsb__buffer_append(&t->hello, f->data, f->len))
        return HSB__TLS_ERR_MEMORY;
    hsb_str rest = hsb__text_make(hsb__buffer_data(&t->hello), hsb__buffer_len(&t->hello));
    if (!hsb__hello_number(&rest, 1, &type) || type != 1)
        return BR_ERR_UNEXPECTED;
    if (!hsb__hello_number(&rest, 3, &size))
        return 0;
    if (size + 4 > HSB__HELLO_MAX)
        return HSB__TLS_ERR_LARGE;
    if (rest.len > size)
        return BR_ERR_UNEXPECTED;               /* RFC 8446 5.1: it ends its record          */
    if (rest.len == size)
        hsb__tls_take_hello(t);
    return 0;
}

/* --- in -------------------------------------------------------------------------------- */

/* RFC 8446 4.6.3.  Nothing else may come after the handshake, and nothing may follow it in
   its record, as the keys change there.                                                     */
static int hsb__tls_take_update(hsb__tls *t, const hsb__frame *f)
{
    if (!f->len || t->update_len + f->len > sizeof t->update)
        return BR_ERR_UNEXPECTED;
    memcpy(t->update + t->update_len, f->data, f->len);
    t->update_len = (unsigned char)(t->update_len + f->len);
    if (t->update[0] != 24)
        return BR_ERR_UNEXPECTED;
    if (t->update_len < sizeof t->update)
        return 0;
    if (t->update[1] || t->update[2] || t->update[3] != 1)
        return BR_ERR_BAD_PARAM;
    if (t->update[4] > 1)
        return HSB__TLS_ERR_ILLEGAL;
    t->update_len = 0;
    t->update_owed = t->update_owed || t->update[4] == 1;
    hsb__keys_update(&t->record.secrets.keys.in, t->record.suite);
    return 0;
}

/* RFC 5246 7.4.1.1: a client that wants to renegotiate hears a warning.                      */
static int hsb__tls_refuse_renegotiation(hsb__tls *t)
{
    if (!t->shut)
        hsb__record_alert(&t->record, 1, 100);
    return 0;
}

/* RFC 8446 6, RFC 5246 7.2: pairs of level and description.                                  */
static int hsb__tls_take_alert(hsb__tls *t, const hsb__frame *f)
{
    const bool is_13 = t->info.version == HSB__TLS13 || t->tls13;
    if (!f->len || f->len % 2 || (is_13 && f->len > 2))         /* RFC 8446 5.1              */
        return BR_ERR_BAD_ALERT;
    for (size_t i = 0; i < f->len; i += 2) {
        const unsigned level = f->data[i], alert = f->data[i + 1];
        if (alert == 0)
            t->peer_shut = true;
        else if (is_13 ? alert != 90 : level == 2)  /* RFC 8446 6.1: user_canceled announces */
            return BR_ERR_RECV_FATAL_ALERT + (int)alert;
    }
    return 0;
}

/* A record of an open connection.                                                            */
static int hsb__tls_take_frame(hsb__tls *t, const hsb__frame *f)
{
    const bool is_13 = t->info.version == HSB__TLS13;
    if (f->clear && is_13)
        return BR_ERR_UNEXPECTED;
    if (t->update_len && f->type != HSB__RECORD_HANDSHAKE)
        return BR_ERR_UNEXPECTED;
    if (t->quiet <= HSB__TLS_QUIET)
        t->quiet++;
    switch (f->type) {
    case HSB__RECORD_DATA:
        if (f->len)
            t->quiet = 0;
        if (!t->shut)
            t->plain = hsb__text_make((const char *)f->data, f->len);
        return 0;
    case HSB__RECORD_ALERT:
        return hsb__tls_take_alert(t, f);
    case HSB__RECORD_HANDSHAKE:
        return is_13 ? hsb__tls_take_update(t, f) : hsb__tls_refuse_renegotiation(t);
    default:
        return BR_ERR_UNEXPECTED;
    }
}

/* A record of a handshake of TLS 1.3, after our flight.                                       */
static int hsb__tls_take_frame13(hsb__tls *t, const hsb__frame *f)
{
    hsb__tls13 *h = t->tls13;
    if (f->type == HSB__RECORD_ALERT)           /* also in the clear, from one without keys   */
        return hsb__tls_take_alert(t, f);
    if (f->clear && f->type != HSB__RECORD_CCS)
        return BR_ERR_UNEXPECTED;
    if (!f->clear)
        h->early = 0;
    const int error = hsb__tls13_take_frame(h, f);
    if (!error && h->state == HSB__WAIT_NOTHING)
        hsb__tls_complete13(t);
    return error;
}

/* RFC 8446 4.2.10: early data was not accepted, so its records do not decrypt.  They are
   skipped until the first that does.                                                         */
static bool hsb__tls_skip_early(hsb__tls *t, int error, size_t len)
{
    if (error != BR_ERR_BAD_MAC || !t->tls13 || len > t->tls13->early)
        return false;
    t->tls13->early -= len;
    return true;
}

/* One record, or a part of one.                                                               */
static size_t hsb__tls_receive_record(hsb__tls *t, unsigned char *bytes, size_t len)
{
    hsb__frame f;
    size_t used;
    int error = hsb__record_take(&t->record, bytes, len, &used, &f);
    if (hsb__tls_skip_early(t, error, f.size))
        return used;
    if (!error && f.type) {
        if (t->phase == HSB__TLS_OPEN)
            error = hsb__tls_take_frame(t, &f);
        else if (t->tls13 && t->tls13->state > HSB__WAIT_HELLO_AGAIN)
            error = hsb__tls_take_frame13(t, &f);
        else if (f.type == HSB__RECORD_ALERT)
            error = hsb__tls_take_alert(t, &f);
        else
            error = hsb__tls_collect_hello(t, &f);
    }
    if (!error && t->peer_shut && t->phase == HSB__TLS_HANDSHAKE)
        hsb__tls_die(t, 0);
    if (!error && t->quiet > HSB__TLS_QUIET)
        error = HSB__TLS_ERR_FLOOD;
    if (error)
        hsb__tls_die(t, error);
    return error ? len : used;
}

/* In a handshake nothing is received before all is sent, so that an alert can follow it.    */
static bool hsb__tls_must_send(const hsb__tls *t)
{
    return t->phase == HSB__TLS_HANDSHAKE && t->record.sent < t->record.made;
}

/* Like "GET " or "M-SEARCH ", or how that begins.                                          */
static bool hsb__tls_is_method(const unsigned char *bytes, size_t len)
{
    const hsb_str text = hsb__text_make((const char *)bytes, len < 20 ? len : 20);
    const size_t n = hsb__byte_count(text, HSB__BYTE_LETTER);
    const size_t token = hsb__byte_count(text, HSB__BYTE_TOKEN);
    return n > 0 && (token == len || (token < text.len && bytes[token] == ' '));
}

/* The first byte is not that of a handshake record.                                        */
static void hsb__tls_refuse_bytes(hsb__tls *t, const unsigned char *bytes, size_t len)
{
    const bool is_record = bytes[0] >= HSB__RECORD_CCS && bytes[0] <= HSB__RECORD_DATA;
    if (hsb__tls_is_method(bytes, len))
        hsb__tls_answer_plain(t);
    else
        hsb__tls_die(t, is_record ? BR_ERR_UNEXPECTED : HSB__TLS_ERR_FOREIGN);
}

/* Takes at most what completes one record; 0: not now, for plaintext or records wait.  What
   comes after the end is swallowed.  bytes are overwritten.                                 */
static size_t hsb__tls_receive(hsb__tls *t, void *bytes, size_t len)
{
    const unsigned char *first = bytes;
    size_t used;
    if (len == 0 || t->peer_shut || t->phase == HSB__TLS_DEAD)
        return len;
    if (t->plain.len || hsb__tls_must_send(t))
        return 0;
    if (t->phase == HSB__TLS_HANDSHAKE && !t->handshake_bytes && *first != HSB__RECORD_HANDSHAKE) {
        hsb__tls_refuse_bytes(t, first, len);
        return len;
    }
    if (t->tls12) {
        used = hsb__tls12_feed(t->tls12, bytes, len);
        hsb__tls_advance12(t);
    } else {
        used = hsb__tls_receive_record(t, bytes, len);
    }
    if (t->phase == HSB__TLS_HANDSHAKE) {
        t->handshake_bytes += (uint32_t)used;
        if (t->handshake_bytes > HSB__TLS_HANDSHAKE_BYTES)
            hsb__tls_die(t, HSB__TLS_ERR_FLOOD);
    }
    return used;
}

/* Decrypted bytes that wait; len 0: none.  Good until the next call here.                  */
static hsb_str hsb__tls_plain(const hsb__tls *t)
{
    return t->plain;
}

static void hsb__tls_plain_used(hsb__tls *t, size_t n)
{
    t->plain = hsb__text_after(t->plain, n);
}

/* --- out ------------------------------------------------------------------------------- */

/* RFC 8446 4.6.3: answered once, however often it was asked for; 5.5: and new keys before a
   key has protected 2^24 records.                                                          */
static void hsb__tls_update_keys(hsb__tls *t)
{
    static const unsigned char message[5] = { 24, 0, 0, 1, 0 };
    hsb__record *r = &t->record;
    if (t->info.version != HSB__TLS13 || r->open ||
        !(t->update_owed || r->secrets.keys.out.seq >= (uint64_t)1 << 23))
        return;
    if (r->out && r->out_size - r->made < HSB__RECORD_SPARE)
        return;                                 /* an alert has to fit after it              */
    if (!hsb__record_put(r, HSB__RECORD_HANDSHAKE, message, sizeof message))
        return;
    hsb__record_flush(r);
    hsb__keys_update(&r->secrets.keys.out, r->suite);
    t->update_owed = false;
}

/* The last of a handshake of TLS 1.3, before the first answer.                             */
static void hsb__tls_send_tickets(hsb__tls *t)
{
    if (!t->tls13 || t->phase != HSB__TLS_OPEN || t->shut)
        return;
    hsb__psk_send_tickets(t->tls13);
    hsb__tls13_end(t->tls13);
    t->tls13 = NULL;
}

/* Where plaintext may be written; NULL: not now.  Good until the next call here.           */
static char *hsb__tls_writable(hsb__tls *t, size_t *len)
{
    *len = 0;
    if (t->phase != HSB__TLS_OPEN || t->shut)
        return NULL;
    hsb__tls_send_tickets(t);
    hsb__tls_update_keys(t);
    char *at = hsb__record_writable(&t->record, len);
    if (!t->record.out)
        hsb__tls_die(t, HSB__TLS_ERR_MEMORY);
    return at;
}

static void hsb__tls_written(hsb__tls *t, size_t n)
{
    if (n == 0)
        return;
    t->quiet = 0;
    hsb__record_written(&t->record, n);
}

/* There is no request yet whose answer could carry the tickets.  They go out alone: a client
   that waits for an acknowledgement of its Finished before it sends its request (Nagle) gets
   one, and need not wait for the timer of our system.                                      */
static void hsb__tls_greet(hsb__tls *t)
{
    hsb__tls_send_tickets(t);
    if (t->phase == HSB__TLS_OPEN)
        hsb__record_flush(&t->record);
}

/* Ends the record, if there is something in it.  Not after each piece of an answer: head
   and body belong in one record.                                                           */
static void hsb__tls_flush(hsb__tls *t)
{
    if (t->phase == HSB__TLS_OPEN)
        hsb__record_flush(&t->record);
}

/* Bytes for the socket; len 0: none.  Good until the next call here.                       */
static hsb_str hsb__tls_records(const hsb__tls *t)
{
    const hsb_str records = hsb__record_closed(&t->record);
    return t->own_len && !records.len ? hsb__text_make(t->own, t->own_len) : records;
}

/* The first n bytes of hsb__tls_records were sent.                                         */
static void hsb__tls_records_sent(hsb__tls *t, size_t n)
{
    if (t->own_len && t->record.sent == t->record.made) {
        t->own += n;
        t->own_len -= n;
        return;
    }
    if (!t->tls12) {
        hsb__record_sent(&t->record, n);
        return;
    }
    t->record.sent += n;                /* the engine writes behind them: see hsb__tls12_gather */
    if (t->phase == HSB__TLS_HANDSHAKE)
        hsb__tls_advance12(t);
}

/* close_notify, after what is queued.  Plaintext that nobody took is dropped.               */
static void hsb__tls_shut(hsb__tls *t)
{
    if (t->phase == HSB__TLS_DEAD || t->shut)
        return;
    t->plain = hsb__text_absent();
    if (t->phase == HSB__TLS_HANDSHAKE) {
        hsb__tls_die(t, 0);
        return;
    }
    hsb__record_alert(&t->record, 1, 0);
    t->shut = true;
}

/* ===== >>loop ====================================================================
   Purpose  what all connections of a server share: options with the defaults filled in,
            memory, timers, poller, the clock of this turn, the bytes just received
   Uses     >>platform >>memory >>list >>text >>timer >>poller >>inbox >>tls
   Names    hsb__loop_*, hsb__options_*, hsb__pace_*, hsb__after_add
   Tests    tests/unit/loop.c                                                        */

enum {
    HSB__STAGE = 65536          /* one recv at most; a client's record is up to 16 KiB + 325 */
};

typedef struct hsb__loop {
    hsb__memory   memory;
    hsb__pool     pool;
    hsb__timers   timers;
    hsb__poller   poller;
    hsb__tls_pool tls;
    hsb__inbox   *inbox;
    hsb_options   options;      /* resolved; the raw ones are not used again            */
    hsb_server   *server;
    uint64_t      now_us;       /* monotonic; read once a turn, and after each hook     */
    char         *stage;        /* HSB__STAGE bytes for the connection that steps now   */
    hsb__link     scheduled;    /* connections to step before the next wait             */
    hsb__link     silent;       /* connections that have sent nothing yet; oldest first  */
    hsb__link     idle;         /* connections between requests; the longest idle first  */
    void        (*on_idle)(hsb_server *);   /* set while accepting waits for one of these */
    bool        (*on_named)(hsb_conn *);    /* its PROXY header is there; false: refused   */
    int           held;         /* descriptors of connections and of files being sent    */
    int           descriptors;  /* how many these may be                                */
    int           depth;        /* in a turn: 1, in a hook: more                        */
    bool          closing;      /* no new requests                                      */
    bool          date_fresh;   /* date[] was compared with the clock this turn          */
    int64_t       date_second;  /* of date[]                                            */
    char          date[HSB__DATE_TEXT];
} hsb__loop;

/* --- options ----------------------------------------------------------------------------- */
static void hsb__options_default(int *value, int standard)
{
    if (*value == 0)
        *value = standard;
}

static void hsb__options_default64(int64_t *value, int64_t standard)
{
    if (*value == 0)
        *value = standard;
}

/* -1 stays -1: no limit.                                                               */
static hsb_options hsb__options_resolve(const hsb_options *raw)
{
    hsb_options o;
    memset(&o, 0, sizeof o);
    if (raw)
        o = *raw;
    hsb__options_default(&o.backlog, HSB__BACKLOG);
    hsb__options_default(&o.timeouts.handshake, 10000);
    hsb__options_default(&o.timeouts.head, 10000);
    hsb__options_default(&o.timeouts.body, 30000);
    hsb__options_default(&o.timeouts.write, 30000);
    hsb__options_default(&o.timeouts.idle, 120000);
    hsb__options_default(&o.timeouts.close, 2000);
    hsb__options_default(&o.timeouts.shutdown, 30000);
    hsb__options_default(&o.timeouts.stream, 300000);
    hsb__options_default(&o.limits.connections, 1024);
    hsb__options_default(&o.limits.target_bytes, 8192);
    hsb__options_default(&o.limits.head_bytes, 16384);
    hsb__options_default(&o.limits.head_fields, 100);
    hsb__options_default64(&o.limits.body_bytes, (int64_t)1 << 20);
    hsb__options_default64(&o.limits.stream_bytes, -1);
    hsb__options_default(&o.limits.queued_bytes, 65536);
    hsb__options_default(&o.limits.rate, 512);
    hsb__options_default(&o.limits.requests, -1);
    hsb__options_default(&o.limits.per_address, -1);
    hsb__options_default(&o.limits.request_bytes, 1048576);
    return o;
}

static size_t hsb__options_limit(int limit)
{
    return limit < 0 ? SIZE_MAX : (size_t)limit;
}

/* --- the clock ----------------------------------------------------------------------------- */
static void hsb__loop_tick(hsb__loop *loop)
{
    loop->now_us = hsb__os_now_us();
    loop->date_fresh = false;
}

/* Around every call of a hook.  The hook may have blocked, and what begins after it must not
   seem to have begun before it.                                                         */
static void hsb__loop_enter_hook(hsb__loop *loop)
{
    loop->depth++;
}

static void hsb__loop_leave_hook(hsb__loop *loop)
{
    loop->depth--;
    loop->now_us = hsb__os_now_us();
}

static uint64_t hsb__loop_now_ms(const hsb__loop *loop)
{
    return loop->now_us / 1000;
}

/* The Date field's value: the clock is asked at most once a turn, the text made at most
   once a second.                                                                        */
static const char *hsb__loop_date(hsb__loop *loop)
{
    int64_t now = loop->date_fresh ? loop->date_second : hsb__os_wall();
    if (now != loop->date_second || !loop->date[0])
        hsb__date_print(loop->date, now);
    loop->date_second = now;
    loop->date_fresh = true;
    return loop->date;
}

/* --- hooks that belong to no request --------------------------------------------------------- */
static void hsb__loop_error(hsb__loop *loop, hsb_conn *conn, const hsb_error *err)
{
    if (!loop->options.hooks.on_error)
        return;
    hsb__loop_enter_hook(loop);
    loop->options.hooks.on_error(loop->server, conn, err, loop->options.hooks.user);
    hsb__loop_leave_hook(loop);
}

/* --- pace: how long a transfer may take ------------------------------------------------------- */
/* A transfer may pause for one period at a time, and after its first period it must have
   had rate bytes a second on average: one byte in 29 s is not enough.                   */
typedef struct hsb__pace {
    uint64_t began, moved;      /* ms; moved: the last byte.  began 0: not started      */
    uint64_t held;              /* since when the clock stands still; 0: it runs        */
    uint64_t bytes;
} hsb__pace;

static void hsb__pace_stop(hsb__pace *p)
{
    memset(p, 0, sizeof *p);
}

/* Starts the clock, or lets it go on after a hold as if no time had passed.             */
static void hsb__pace_start(hsb__pace *p, uint64_t now)
{
    if (!p->began) {
        p->began = p->moved = now;
        p->bytes = 0;
    } else if (p->held) {
        uint64_t moved = p->moved + (now - p->held);
        p->began += now - p->held;
        p->moved = moved < now ? moved : now;   /* bytes may have come before this call  */
    }
    p->held = 0;
}

static void hsb__pace_hold(hsb__pace *p, uint64_t now)
{
    if (p->began && !p->held)
        p->held = now;
}

static void hsb__pace_count(hsb__pace *p, uint64_t now, uint64_t bytes)
{
    p->moved = now;
    p->bytes += bytes;
}

/* When it is too slow; UINT64_MAX: never.                                               */
static uint64_t hsb__pace_deadline(const hsb__pace *p, int period_ms, int rate)
{
    if (!p->began || p->held || period_ms < 0)
        return UINT64_MAX;
    uint64_t rest = p->moved + (uint64_t)period_ms;
    if (rate <= 0)
        return rest;
    uint64_t whole = p->began + (uint64_t)period_ms + p->bytes / (uint64_t)rate * 1000;
    return rest < whole ? rest : whole;
}

/* --- calls that a request or a stream asked for later ---------------------------------------- */
/* In list until it is called.                                                           */
static bool hsb__after_add(hsb__link *list, hsb__loop *loop, int delay_ms, hsb__caller *call,
                           void *owner, hsb__resume fn, void *arg)
{
    size_t size = sizeof(hsb__after);
    hsb__after *a = hsb__pool_get(&loop->pool, &size);
    if (!a)
        return false;
    memset(a, 0, sizeof *a);
    a->pool = &loop->pool;
    a->size = size;
    a->call = call;
    a->owner = owner;
    a->fn = fn;
    a->arg = arg;
    a->delay_ms = delay_ms;
    hsb__after_start(a, list, &loop->timers);
    if (loop->depth == 0)               /* the application's own loop may be waiting     */
        hsb__wake_ring(&loop->inbox->wake);
    return true;
}

/* ===== >>head ====================================================================
   Purpose  the request line, the fields and the trailers: a strict reader over bytes,
            and the small readers of what fields and bodies carry: percent, form, cookie
   Uses     >>text >>address
   Names    hsb__head_*, hsb__percent_*, hsb__form_*, hsb__cookie_*
   Tests    tests/unit/head.c, tests/wire/rfc9112-*.txt, tests/fuzz/head.c

   The reader's position is h->at, and its state says what it expects there.  It judges each
   byte once.  The first wrong byte decides the answer, so the result does not depend on how
   the input was split, and no byte is ever read again.  The reader allocates and copies
   nothing.  What it finds are spans, which are offsets, so they stay valid when the bytes
   move.                                                                               */

typedef struct hsb__span { uint32_t at, len; } hsb__span;
typedef struct hsb__field { hsb__span name, value; } hsb__field;
typedef struct hsb__head_limits { size_t target, bytes, fields; } hsb__head_limits;

enum { HSB__HEAD_LARGEST = 1 << 30 };       /* head and trailers: their spans fit 32 bits */

typedef enum hsb__head_state {
    HSB__HEAD_AT_START,         /* the method, or the one empty line that may precede it */
    HSB__HEAD_AT_START_LF,      /* the end of that empty line                          */
    HSB__HEAD_IN_METHOD,        /* token characters, or the space after them           */
    HSB__HEAD_IN_TARGET,        /* visible characters, or the space after them         */
    HSB__HEAD_IN_VERSION,       /* HTTP/1.1 CR LF                                      */
    HSB__HEAD_AT_LINE,          /* a field's name, or the CR of the empty line         */
    HSB__HEAD_IN_NAME,          /* token characters, or the colon                      */
    HSB__HEAD_BEFORE_VALUE,     /* blanks, or the value                                */
    HSB__HEAD_IN_VALUE,         /* the value, or its CR                                */
    HSB__HEAD_AT_VALUE_LF,
    HSB__HEAD_AT_LAST_LF,       /* the LF of the empty line                            */
    HSB__HEAD_FINISHED,
    HSB__HEAD_REFUSED
} hsb__head_state;

typedef struct hsb__head {
    /* the reader's own */
    hsb__head_state  state;
    size_t           at;        /* the next byte to judge                              */
    size_t           stop;      /* where the head, or its trailers, must have ended    */
    hsb__head_limits limits;
    hsb__span        version;
    int              host_fields, coding_fields;
    bool             in_trailers, says_close, says_keep_alive;
    int              status;    /* of FINISHED and REFUSED: what to answer             */
    const char      *reason;    /* of REFUSED                                          */
    /* the result: the layers above only read it */
    hsb__span   method, target, path, query;
    hsb__span   host;           /* the target's authority, else the Host field         */
    bool        has_host, has_query;
    int         minor;          /* of HTTP/1.x: 0 or 1                                 */
    int64_t     content_length; /* -1: chunked; 0 also where no body was announced     */
    bool        has_length, chunked, keep_alive;
    bool        expect_continue;            /* and there is a body to wait for         */
    hsb__field *fields;         /* the caller's array, which it sets after _start      */
    int         field_count, field_space;
    int         trailer_from;   /* fields[trailer_from..field_count) are trailers      */
    size_t      end;            /* when done: the first byte after the empty line      */
} hsb__head;

/* What the reader returns; any other number is the HTTP status to refuse with.        */
enum {
    HSB__HEAD_MORE  = 0,        /* all bytes were judged; more are needed              */
    HSB__HEAD_DONE  = 1,
    HSB__HEAD_SPACE = 2,        /* make field_space larger, then call again            */
    HSB__HEAD_NEXT  = 3         /* only between the steps below: continue in h->state  */
};

static hsb_str hsb__head_text(const char *bytes, hsb__span s)
{
    return hsb__text_make(bytes + s.at, s.len);
}

static hsb__span hsb__head_span(size_t from, size_t to)
{
    hsb__span s;
    s.at = (uint32_t)from;
    s.len = (uint32_t)(to - from);
    return s;
}

static int hsb__head_go(hsb__head *h, hsb__head_state state)
{
    h->state = state;
    return HSB__HEAD_NEXT;
}

static int hsb__head_refuse(hsb__head *h, int status, const char *reason)
{
    h->state = HSB__HEAD_REFUSED;
    h->status = status;
    h->reason = reason;
    return status;
}

/* --- eight bytes at a time --------------------------------------------------------- */
/* A word made of eight equal bytes.  The two functions after it return a word that is not 0
   if and only if x has a byte below `bound` (at most 128), or a byte equal to `byte`.  */
static uint64_t hsb__head_each(unsigned byte)
{
    return ~(uint64_t)0 / 255 * byte;
}

static uint64_t hsb__head_any_below(uint64_t x, unsigned bound)
{
    return (x - hsb__head_each(bound)) & ~x & hsb__head_each(128);
}

static uint64_t hsb__head_any_equal(uint64_t x, unsigned byte)
{
    return hsb__head_any_below(x ^ hsb__head_each(byte), 1);
}

/* The first byte in [at, end) that cannot be in a target, or end.                     */
static size_t hsb__head_skip_target(const char *bytes, size_t at, size_t end)
{
    uint64_t x;
    for (; end - at >= sizeof x; at += sizeof x) {
        memcpy(&x, bytes + at, sizeof x);
        if ((x & hsb__head_each(128)) | hsb__head_any_below(x, ' ' + 1) |
            hsb__head_any_equal(x, 127) | hsb__head_any_equal(x, '#'))
            break;
    }
    while (at < end && hsb__byte_is(bytes[at], HSB__BYTE_TARGET))
        at++;
    return at;
}

/* The first byte in [at, end) that cannot be in a field's value, or end.  The inner loop
   stops at a tab too; a tab is rare, and the outer loop skips it.                     */
static size_t hsb__head_skip_value(const char *bytes, size_t at, size_t end)
{
    uint64_t x;
    for (;;) {
        for (; end - at >= sizeof x; at += sizeof x) {
            memcpy(&x, bytes + at, sizeof x);
            if (hsb__head_any_below(x, ' ') | hsb__head_any_equal(x, 127))
                break;
        }
        size_t limit = end - at > sizeof x ? at + sizeof x : end;
        while (at < limit && hsb__byte_is(bytes[at], HSB__BYTE_FIELD))
            at++;
        if (at < limit || at == end)
            return at;
    }
}

static size_t hsb__head_skip_token(const char *bytes, size_t at, size_t end)
{
    return at + hsb__byte_count(hsb__text_make(bytes + at, end - at), HSB__BYTE_TOKEN);
}

/* --- host and port ----------------------------------------------------------------- */
/* The byte that %XX at s[i] means, or -1.                                             */
static int hsb__percent_byte(hsb_str s, size_t i)
{
    if (s.len - i < 3)
        return -1;
    int high = hsb__text_hex(s.ptr[i + 1]), low = hsb__text_hex(s.ptr[i + 2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* RFC 3986 2.1: a '%' is only valid before two hexadecimal digits.                     */
static bool hsb__percent_is_valid(hsb_str s)
{
    while (s.len) {
        hsb__text_cut(&s, '%');
        if (s.ptr && (s.len < 2 || hsb__text_hex(s.ptr[0]) < 0 || hsb__text_hex(s.ptr[1]) < 0))
            return false;
    }
    return true;
}

/* RFC 3986 3.2.2: reg-name, which includes what an IPv4 address looks like.           */
static bool hsb__head_is_name(hsb_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%' && hsb__percent_byte(s, i) >= 0)
            i += 2;
        else if (!hsb__byte_is(s.ptr[i], HSB__BYTE_NAME))
            return false;
    }
    return s.len > 0;
}

/* RFC 3986 3.2.2: IP-literal, but not IPvFuture.                                      */
static bool hsb__head_is_ipv6(hsb_str s)
{
    uint8_t address[16];
    return hsb__address_parse_v6_number(s, address);
}

/* RFC 9110 7.2: uri-host [ ":" port ].  A user name before it is refused: RFC 9110 4.2.4. */
static bool hsb__head_is_host(hsb_str s, bool need_port)
{
    hsb_str port = s;
    int64_t number = 0;
    if (s.len && s.ptr[0] == '[') {
        hsb_str address = hsb__text_cut(&port, ']');
        if (!port.ptr || !hsb__head_is_ipv6(hsb__text_after(address, 1)) ||
            hsb__text_cut(&port, ':').len > 0)
            return false;
    } else if (!hsb__head_is_name(hsb__text_cut(&port, ':'))) {
        return false;
    }
    if (port.len && !hsb__text_decimal(port, 65535, &number))
        return false;
    return !need_port || number > 0;
}

/* --- the request line -------------------------------------------------------------- */
static void hsb__head_split_query(hsb__head *h, const char *bytes, size_t from, size_t to)
{
    const char *mark = memchr(bytes + from, '?', to - from);
    size_t end = mark ? (size_t)(mark - bytes) : to;
    h->path = hsb__head_span(from, end);
    h->has_query = mark != NULL;
    if (mark)
        h->query = hsb__head_span(end + 1, to);
}

/* RFC 9112 3.2.3: CONNECT names a host and a port; RFC 9110 9.3.6: the port is required. */
static int hsb__head_authority_form(hsb__head *h, const char *bytes)
{
    if (!hsb__head_is_host(hsb__head_text(bytes, h->target), true))
        return hsb__head_refuse(h, 400, "CONNECT without a valid host and port");
    h->host = h->target;
    h->has_host = true;
    h->path = hsb__head_span(h->target.at, h->target.at);
    return HSB__HEAD_NEXT;
}

/* RFC 9112 3.2.2: a whole URI.  Its authority replaces what a Host field says.        */
static int hsb__head_absolute_form(hsb__head *h, const char *bytes)
{
    hsb_str t = hsb__head_text(bytes, h->target);
    size_t scheme = hsb__text_begins_nocase(t, "http://")    ? 7
                    : hsb__text_begins_nocase(t, "https://") ? 8
                                                             : 0;
    if (!scheme)
        return hsb__head_refuse(h, 400, "target in none of the four forms");
    size_t host = h->target.at + scheme, end = h->target.at + h->target.len, path = host;
    while (path < end && bytes[path] != '/' && bytes[path] != '?')
        path++;
    h->host = hsb__head_span(host, path);
    h->has_host = true;
    if (!hsb__head_is_host(hsb__head_text(bytes, h->host), false))
        return hsb__head_refuse(h, 400, "target with an invalid host");
    hsb__head_split_query(h, bytes, path, end);
    if (h->path.len == 0)               /* RFC 9110 4.2.3: the same as "/"; here is one */
        h->path = hsb__head_span(host - 1, host);
    return HSB__HEAD_NEXT;
}

static int hsb__head_target(hsb__head *h, const char *bytes)
{
    hsb_str method = hsb__head_text(bytes, h->method);
    hsb_str target = hsb__head_text(bytes, h->target);
    if (hsb__text_is(method, "CONNECT"))
        return hsb__head_authority_form(h, bytes);
    if (!hsb__percent_is_valid(target))         /* decoders differ in what it would mean   */
        return hsb__head_refuse(h, 400, "target has a % without two hexadecimal digits");
    if (target.ptr[0] == '/') {         /* RFC 9112 3.2.1: origin-form                 */
        hsb__head_split_query(h, bytes, h->target.at, h->target.at + h->target.len);
        return HSB__HEAD_NEXT;
    }
    if (!hsb__text_is(target, "*"))
        return hsb__head_absolute_form(h, bytes);
    if (!hsb__text_is(method, "OPTIONS"))       /* RFC 9112 3.2.4: asterisk-form       */
        return hsb__head_refuse(h, 400, "target * without OPTIONS");
    h->path = h->target;
    return HSB__HEAD_NEXT;
}

/* RFC 9112 2.2: an empty line before the request line is skipped; we skip only one.   */
static int hsb__head_at_start(hsb__head *h, const char *bytes)
{
    if (bytes[0] != '\r')
        return hsb__head_go(h, HSB__HEAD_IN_METHOD);
    h->at++;
    return hsb__head_go(h, HSB__HEAD_AT_START_LF);
}

/* The LF that must follow each CR.                                                    */
static int hsb__head_at_lf(hsb__head *h, const char *bytes, hsb__head_state next)
{
    if (bytes[h->at] != '\n')
        return hsb__head_refuse(h, 400, "CR without LF");
    h->at++;
    return hsb__head_go(h, next);
}

/* RFC 9110 9.1: any token is a method.                                                */
static int hsb__head_in_method(hsb__head *h, const char *bytes, size_t len)
{
    h->at = hsb__head_skip_token(bytes, h->at, len);
    if (h->at == len)
        return HSB__HEAD_MORE;
    h->method = hsb__head_span(bytes[0] == '\r' ? 2 : 0, h->at);
    if (bytes[h->at] != ' ' || h->method.len == 0)
        return hsb__head_refuse(h, 400, "method is not a token");
    h->at++;
    h->target = hsb__head_span(h->at, h->at);
    return hsb__head_go(h, HSB__HEAD_IN_TARGET);
}

/* RFC 9112 3: 414 as soon as the first byte above the limit has arrived.              */
static int hsb__head_in_target(hsb__head *h, const char *bytes, size_t len)
{
    size_t most = h->target.at + h->limits.target;
    h->at = hsb__head_skip_target(bytes, h->at, most < len ? most : len);
    if (h->at == len)
        return HSB__HEAD_MORE;
    if (hsb__byte_is(bytes[h->at], HSB__BYTE_TARGET))
        return hsb__head_refuse(h, 414, "target is too long");
    h->target = hsb__head_span(h->target.at, h->at);
    if (bytes[h->at] != ' ')
        return hsb__head_refuse(h, 400, "request line is malformed");
    if (h->target.len == 0)
        return hsb__head_refuse(h, 400, "target is empty");
    h->at++;
    h->version = hsb__head_span(h->at, h->at);
    return hsb__head_go(h, HSB__HEAD_IN_VERSION);
}

/* RFC 9112 2.3.  The version is judged before the target, because a target may mean
   something else in another major version.                                            */
static int hsb__head_in_version(hsb__head *h, const char *bytes, size_t len)
{
    static const char shape[] = "HTTP/0.0\r\n";
    for (; h->version.len < sizeof shape - 1; h->version.len++, h->at++) {
        if (h->at == len)
            return HSB__HEAD_MORE;
        char wanted = shape[h->version.len], c = bytes[h->at];
        if (wanted == '0' ? !hsb__byte_is(c, HSB__BYTE_DIGIT) : c != wanted)
            return hsb__head_refuse(h, 400, "HTTP version or line end is malformed");
    }
    const char *version = bytes + h->version.at;
    if (version[5] != '1')
        return hsb__head_refuse(h, 505, "HTTP version is not 1.0 or 1.1");
    h->minor = version[7] != '0';       /* RFC 9110 2.5: 1.2 and above are read as 1.1 */
    h->state = HSB__HEAD_AT_LINE;
    return hsb__head_target(h, bytes);
}

/* --- fields that the framing needs ------------------------------------------------- */
/* RFC 9112 3.2: there is exactly one.  RFC 9112 3.2.2: the host of the target, if it has one,
   counts instead.  The field may be empty only if the target is not in origin-form.   */
static int hsb__head_host(hsb__head *h, const char *bytes, hsb__span value)
{
    bool origin = bytes[h->target.at] == '/';
    if (h->host_fields++)
        return hsb__head_refuse(h, 400, "two Host fields");
    if ((origin || value.len) && !hsb__head_is_host(hsb__head_text(bytes, value), false))
        return hsb__head_refuse(h, 400, "Host is not valid");
    if (!h->has_host) {
        h->host = value;
        h->has_host = true;
    }
    return HSB__HEAD_NEXT;
}

/* RFC 9112 6.3: one number.  RFC 9110 8.6 would permit a list of equal numbers; no honest
   client sends one.  What does not fit 63 bits is a number, and too large for us.      */
static int hsb__head_content_length(hsb__head *h, hsb_str value)
{
    if (h->has_length)
        return hsb__head_refuse(h, 400, "two Content-Length fields");
    if (h->coding_fields)
        return hsb__head_refuse(h, 400, "both Transfer-Encoding and Content-Length");
    if (!hsb__text_number(value, &h->content_length))
        return hsb__head_refuse(h, 400, "Content-Length is not a number");
    if (!hsb__text_decimal(value, INT64_MAX, &h->content_length))
        return hsb__head_refuse(h, 413, "Content-Length is too large");
    h->has_length = true;
    return HSB__HEAD_NEXT;
}

/* For a Transfer-Encoding that is not "chunked".  True: a list of codings, one of
   which is unknown; false: malformed.                                                 */
static bool hsb__head_names_coding(hsb_str value)
{
    hsb_str element;
    bool unknown = false;
    while (hsb__text_next_element(&value, &element)) {
        hsb_str name = hsb__text_trim(hsb__text_cut(&element, ';'));
        if (!hsb__text_is_token(name))
            return false;
        unknown = unknown || !hsb__text_is_nocase(name, "chunked");
    }
    return unknown;
}

/* RFC 9112 6.1: "chunked", once.  Together with a length it is used to smuggle requests;
   HTTP/1.0 does not have it.                                                          */
static int hsb__head_transfer_encoding(hsb__head *h, hsb_str value)
{
    if (h->coding_fields++)
        return hsb__head_refuse(h, 400, "two Transfer-Encoding fields");
    if (h->has_length)
        return hsb__head_refuse(h, 400, "both Content-Length and Transfer-Encoding");
    if (h->minor == 0)
        return hsb__head_refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
    if (!hsb__text_is_nocase(value, "chunked"))
        return hsb__head_names_coding(value)
                   ? hsb__head_refuse(h, 501, "Transfer-Encoding is not chunked")
                   : hsb__head_refuse(h, 400, "Transfer-Encoding is malformed");
    h->chunked = true;
    h->content_length = -1;
    return HSB__HEAD_NEXT;
}

/* RFC 9112 9.3: close wins over keep-alive; the other options do not concern us.      */
static int hsb__head_connection(hsb__head *h, hsb_str value)
{
    hsb_str option;
    while (hsb__text_next_element(&value, &option)) {
        if (hsb__text_is_nocase(option, "close"))
            h->says_close = true;
        else if (hsb__text_is_nocase(option, "keep-alive"))
            h->says_keep_alive = true;
    }
    return HSB__HEAD_NEXT;
}

/* RFC 9110 10.1.1: 417 for an expectation that we cannot meet.  From an HTTP/1.0 client
   100-continue is ignored.                                                            */
static int hsb__head_expect(hsb__head *h, hsb_str value)
{
    hsb_str expectation;
    while (hsb__text_next_element(&value, &expectation)) {
        if (!hsb__text_is_nocase(expectation, "100-continue"))
            return hsb__head_refuse(h, 417, "Expect is not 100-continue");
        h->expect_continue = h->minor > 0;
    }
    return HSB__HEAD_NEXT;
}

/* Called once for each field, when its line has ended.  RFC 9110 6.5.1: in trailers these
   fields mean nothing.                                                                */
static int hsb__head_meaning(hsb__head *h, const char *bytes, const hsb__field *field)
{
    hsb_str name = hsb__head_text(bytes, field->name);
    hsb_str value = hsb__head_text(bytes, field->value);
    if (h->in_trailers)
        return HSB__HEAD_NEXT;
    if (name.len == 4 && hsb__text_is_nocase(name, "Host"))
        return hsb__head_host(h, bytes, field->value);
    if (name.len == 6 && hsb__text_is_nocase(name, "Expect"))
        return hsb__head_expect(h, value);
    if (name.len == 10 && hsb__text_is_nocase(name, "Connection"))
        return hsb__head_connection(h, value);
    if (name.len == 14 && hsb__text_is_nocase(name, "Content-Length"))
        return hsb__head_content_length(h, value);
    if (name.len == 17 && hsb__text_is_nocase(name, "Transfer-Encoding"))
        return hsb__head_transfer_encoding(h, value);
    return HSB__HEAD_NEXT;
}

/* --- field lines ------------------------------------------------------------------- */
/* fields[field_count] is the line that is being read.                                 */
static int hsb__head_at_line(hsb__head *h, const char *bytes)
{
    if (bytes[h->at] == '\r') {
        h->at++;
        return hsb__head_go(h, HSB__HEAD_AT_LAST_LF);
    }
    if ((size_t)(h->field_count - h->trailer_from) >= h->limits.fields)
        return hsb__head_refuse(h, 431, "too many fields");
    if (h->field_count >= h->field_space)
        return HSB__HEAD_SPACE;
    h->fields[h->field_count].name = hsb__head_span(h->at, h->at);
    return hsb__head_go(h, HSB__HEAD_IN_NAME);
}

/* RFC 9112 5.1: no space before the colon; 5.2: no line folding.                      */
static int hsb__head_in_name(hsb__head *h, const char *bytes, size_t len)
{
    hsb__span *name = &h->fields[h->field_count].name;
    h->at = hsb__head_skip_token(bytes, h->at, len);
    if (h->at == len)
        return HSB__HEAD_MORE;
    *name = hsb__head_span(name->at, h->at);
    if (bytes[h->at] != ':' || name->len == 0)
        return hsb__head_refuse(h, 400, "field name is not a token before a colon");
    h->at++;
    return hsb__head_go(h, HSB__HEAD_BEFORE_VALUE);
}

static int hsb__head_before_value(hsb__head *h, const char *bytes, size_t len)
{
    while (h->at < len && hsb__byte_is_blank(bytes[h->at]))
        h->at++;
    if (h->at == len)
        return HSB__HEAD_MORE;
    h->fields[h->field_count].value = hsb__head_span(h->at, h->at);
    return hsb__head_go(h, HSB__HEAD_IN_VALUE);
}

/* RFC 9110 5.5: blanks around the value are not part of it.                           */
static int hsb__head_in_value(hsb__head *h, const char *bytes, size_t len)
{
    hsb__span *value = &h->fields[h->field_count].value;
    h->at = hsb__head_skip_value(bytes, h->at, len);
    if (h->at == len)
        return HSB__HEAD_MORE;
    if (bytes[h->at] != '\r')
        return hsb__head_refuse(h, 400, bytes[h->at] == '\n' ? "LF without CR"
                                                             : "control character in a field");
    size_t end = h->at++;
    while (end > value->at && hsb__byte_is_blank(bytes[end - 1]))
        end--;
    *value = hsb__head_span(value->at, end);
    return hsb__head_go(h, HSB__HEAD_AT_VALUE_LF);
}

static int hsb__head_at_value_lf(hsb__head *h, const char *bytes)
{
    int result = hsb__head_at_lf(h, bytes, HSB__HEAD_AT_LINE);
    return result == HSB__HEAD_NEXT ? hsb__head_meaning(h, bytes, &h->fields[h->field_count++])
                                    : result;
}

/* RFC 9112 3.2: HTTP/1.1 needs a Host.                                                */
static int hsb__head_at_last_lf(hsb__head *h, const char *bytes)
{
    if (hsb__head_at_lf(h, bytes, HSB__HEAD_FINISHED) != HSB__HEAD_NEXT)
        return h->status;
    if (h->minor > 0 && h->host_fields == 0)
        return hsb__head_refuse(h, 400, "no Host field");
    h->end = h->at;
    h->status = HSB__HEAD_DONE;
    if (!h->in_trailers) {
        h->trailer_from = h->field_count;
        h->keep_alive = !h->says_close && (h->minor > 0 || h->says_keep_alive);
        h->expect_continue = h->expect_continue && h->content_length != 0;
    }
    return HSB__HEAD_DONE;
}

/* --- the reader -------------------------------------------------------------------- */
static int hsb__head_step(hsb__head *h, const char *bytes, size_t len)
{
    switch (h->state) {
    case HSB__HEAD_AT_START:        return hsb__head_at_start(h, bytes);
    case HSB__HEAD_AT_START_LF:     return hsb__head_at_lf(h, bytes, HSB__HEAD_IN_METHOD);
    case HSB__HEAD_IN_METHOD:       return hsb__head_in_method(h, bytes, len);
    case HSB__HEAD_IN_TARGET:       return hsb__head_in_target(h, bytes, len);
    case HSB__HEAD_IN_VERSION:      return hsb__head_in_version(h, bytes, len);
    case HSB__HEAD_AT_LINE:         return hsb__head_at_line(h, bytes);
    case HSB__HEAD_IN_NAME:         return hsb__head_in_name(h, bytes, len);
    case HSB__HEAD_BEFORE_VALUE:    return hsb__head_before_value(h, bytes, len);
    case HSB__HEAD_IN_VALUE:        return hsb__head_in_value(h, bytes, len);
    case HSB__HEAD_AT_VALUE_LF:     return hsb__head_at_value_lf(h, bytes);
    case HSB__HEAD_AT_LAST_LF:      return hsb__head_at_last_lf(h, bytes);
    case HSB__HEAD_FINISHED:
    case HSB__HEAD_REFUSED:         break;
    }
    return h->status;
}

static size_t hsb__head_at_most(size_t limit)
{
    return limit < HSB__HEAD_LARGEST ? limit : HSB__HEAD_LARGEST;
}

/* Forgets everything.  The caller must set h->fields and h->field_space after it.      */
static void hsb__head_start(hsb__head *h, const hsb__head_limits *limits)
{
    memset(h, 0, sizeof *h);
    h->limits.target = hsb__head_at_most(limits->target);
    h->limits.bytes = hsb__head_at_most(limits->bytes);
    h->limits.fields = hsb__head_at_most(limits->fields);
    h->stop = h->limits.bytes;
}

/* bytes[0..len) is all that has been received of the head, at least as much as in the call
   before.  It may be more than the head: h->end tells where the head ended.  A refusal is
   final.  Bytes from h->stop on are not looked at: a head that has not ended there is too
   long.                                                                               */
static int hsb__head_parse(hsb__head *h, const char *bytes, size_t len)
{
    const size_t end = len < h->stop ? len : h->stop;
    int result = HSB__HEAD_NEXT;
    if (h->state >= HSB__HEAD_FINISHED)
        return h->status;
    while (result == HSB__HEAD_NEXT && h->at < end)
        result = hsb__head_step(h, bytes, end);
    if (result != HSB__HEAD_NEXT && result != HSB__HEAD_MORE)
        return result;
    if (h->at < h->stop)
        return HSB__HEAD_MORE;
    return hsb__head_refuse(h, 431, h->in_trailers ? "trailers are too long" : "head is too long");
}

/* RFC 9112 7.1.2: the trailers of a chunked body, whose first byte is bytes[from]; their spans
   and h->end count from bytes[0].  The limits of the head apply to them again.        */
static int hsb__head_parse_trailers(hsb__head *h, const char *bytes, size_t len, size_t from)
{
    if (!h->in_trailers && h->state == HSB__HEAD_FINISHED) {
        h->in_trailers = true;
        h->state = HSB__HEAD_AT_LINE;
        h->at = from;
        h->stop = from + h->limits.bytes;
    }
    return hsb__head_parse(h, bytes, len);
}

/* For on_error: "two Content-Length fields"                                           */
static const char *hsb__head_reason(const hsb__head *h)
{
    return h->reason ? h->reason : "";
}

/* The first field of that name among fields[from..to), or -1.                         */
static int hsb__head_field(const hsb__head *h, const char *bytes, hsb_str name,
                           int from, int to)
{
    for (int i = from; i < to; i++)
        if (hsb__text_equal_nocase(hsb__head_text(bytes, h->fields[i].name), name))
            return i;
    return -1;
}

/* --- percent, form, cookie --------------------------------------------------------- */
/* The byte that in[*i] begins, decoded, and *i becomes the index after it.  -1: malformed.
   RFC 3986 2.1; in a form '+' is a space.                                             */
static int hsb__percent_next(hsb_str in, size_t *i, bool form)
{
    const size_t at = *i;
    if (in.ptr[at] == '%') {
        *i = at + 3;
        return hsb__percent_byte(in, at);
    }
    *i = at + 1;
    return in.ptr[at] == '+' && form ? ' ' : (unsigned char)in.ptr[at];
}

/* Is it `text` when it is decoded?                                                    */
static bool hsb__percent_is(hsb_str in, bool form, hsb_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len; n++) {
        const int c = hsb__percent_next(in, &i, form);
        if (n == text.len || c != (unsigned char)text.ptr[n])
            return false;
    }
    return n == text.len;
}

/* Writes the text and a NUL to buf, which may be where `in` is.  False: `in` is malformed, contains
   a NUL, or does not fit; then buf is empty.                                              */
static bool hsb__percent_decode(hsb_str in, bool form, char *buf, size_t size, size_t *len)
{
    size_t n = 0;
    bool good = size > 0;
    for (size_t i = 0; good && i < in.len;) {
        const int c = hsb__percent_next(in, &i, form);
        good = c > 0 && n + 1 < size;
        if (good)
            buf[n++] = (char)c;
    }
    if (!good)
        n = 0;
    if (size)
        buf[n] = '\0';
    if (len)
        *len = n;
    return good;
}

/* The next of a=1&b=2, still encoded; the value is absent if there was no '='.  Empty parts
   are skipped.                                                                        */
static bool hsb__form_next(hsb_str *rest, hsb_str *name, hsb_str *value)
{
    while (rest->len) {
        hsb_str pair = hsb__text_cut(rest, '&');
        if (pair.len == 0)
            continue;
        *name = hsb__text_cut(&pair, '=');
        *value = pair;
        return true;
    }
    return false;
}

/* RFC 6265 4.2.1: the next of a=1; b=2.  A part without '=' is skipped.               */
static bool hsb__cookie_next(hsb_str *rest, hsb_str *name, hsb_str *value)
{
    while (rest->len) {
        hsb_str pair = hsb__text_cut(rest, ';');
        hsb_str key = hsb__text_cut(&pair, '=');
        if (!pair.ptr)
            continue;
        *name = hsb__text_trim(key);
        *value = hsb__text_trim(pair);
        return true;
    }
    return false;
}

/* The first cookie with exactly that name in any Cookie field, or absent.             */
static hsb_str hsb__cookie_find(const hsb__head *h, const char *bytes, hsb_str wanted)
{
    const hsb_str field = hsb__text_of("Cookie");
    hsb_str name, value;
    int i = -1;
    while ((i = hsb__head_field(h, bytes, field, i + 1, h->trailer_from)) >= 0) {
        hsb_str rest = hsb__head_text(bytes, h->fields[i].value);
        while (hsb__cookie_next(&rest, &name, &value))
            if (hsb__text_equal(name, wanted))
                return value;
    }
    return hsb__text_absent();
}

/* ===== >>body ====================================================================
   Purpose  length and chunked framing of a request's body: a strict state machine that
            separates the data from its framing and copies nothing
   Uses     >>text
   Names    hsb__body_*
   Tests    tests/unit/body.c, tests/wire/rfc9112-7-chunked.txt, tests/fuzz/body.c     */

typedef enum hsb__body_state {
    HSB__BODY_IN_LENGTH,        /* `left` bytes of data, and that is all               */
    HSB__BODY_AT_SIZE,          /* the first digit of a chunk's size                   */
    HSB__BODY_IN_SIZE,          /* more digits, an extension, or CR                    */
    HSB__BODY_BEFORE_EXTENSION, /* more blanks, or the ';' of an extension             */
    HSB__BODY_AT_NAME,          /* an extension's name, or blanks before it            */
    HSB__BODY_IN_NAME,          /* more of the name, '=', another extension, or CR     */
    HSB__BODY_AFTER_NAME,       /* more blanks, '=', or another extension              */
    HSB__BODY_AT_VALUE,         /* an extension's value, or blanks before it           */
    HSB__BODY_IN_VALUE,         /* more of the value, another extension, or CR         */
    HSB__BODY_IN_QUOTES,        /* more of the quoted value, or the quote that ends it */
    HSB__BODY_AFTER_BACKSLASH,  /* the character that it quotes                        */
    HSB__BODY_AFTER_QUOTES,     /* another extension, or CR                            */
    HSB__BODY_AT_SIZE_LF,
    HSB__BODY_IN_CHUNK,         /* `left` bytes of data                                */
    HSB__BODY_AT_CHUNK_CR,
    HSB__BODY_AT_CHUNK_LF,
    HSB__BODY_AT_TRAILERS,      /* nothing: >>head reads the trailers                  */
    HSB__BODY_REFUSED           /* nothing: status and reason say why                  */
} hsb__body_state;

typedef struct hsb__body {
    hsb__body_state state;
    int64_t         left;       /* bytes still missing of the length or of this chunk  */
    int             digits;     /* of this chunk's size, up to HSB__BODY_DIGITS        */
    size_t          extra;      /* bytes that the size lines of this body may still spend
                                   on extensions, blanks and further zeros             */
    int             status;     /* after HSB__BODY_BAD: what to answer, and why        */
    const char     *reason;
} hsb__body;

typedef enum hsb__body_event {
    HSB__BODY_MORE,             /* all bytes were used; more are needed                */
    HSB__BODY_DATA,             /* a part of the data, within the caller's bytes       */
    HSB__BODY_TRAILERS,         /* the last chunk ended; >>head reads what follows     */
    HSB__BODY_DONE,             /* the length was reached                              */
    HSB__BODY_BAD
} hsb__body_event;

/* 15 hexadecimal digits are more than any disk holds, and fit 63 bits.                */
enum { HSB__BODY_DIGITS = 15 };

static void hsb__body_start(hsb__body *b, bool chunked, int64_t length, size_t extra_limit)
{
    memset(b, 0, sizeof *b);
    b->state = chunked ? HSB__BODY_AT_SIZE : HSB__BODY_IN_LENGTH;
    b->left = chunked ? 0 : length;
    b->extra = extra_limit;
}

static hsb__body_event hsb__body_refuse(hsb__body *b, int status, const char *reason)
{
    b->state = HSB__BODY_REFUSED;
    b->status = status;
    b->reason = reason;
    return HSB__BODY_BAD;
}

static hsb__body_event hsb__body_go(hsb__body *b, hsb__body_state state)
{
    b->state = state;
    return HSB__BODY_MORE;
}

/* Counts a byte of which a client may send only a limited number.                      */
static hsb__body_event hsb__body_spend(hsb__body *b, hsb__body_state next)
{
    if (b->extra == 0)
        return hsb__body_refuse(b, 431, "chunk extensions are too long");
    b->extra--;
    return hsb__body_go(b, next);
}

/* RFC 9112 7.1: chunk-size.  It may have any number of zeros before it; as many as a client
   would write to get a fixed width are free.                                          */
static hsb__body_event hsb__body_digit(hsb__body *b, int digit)
{
    if (digit < 0)
        return hsb__body_refuse(b, 400, "chunk size is not a number");
    if (b->left >> 4 * (HSB__BODY_DIGITS - 1))
        return hsb__body_refuse(b, 413, "chunk size is too large");
    b->left = b->left << 4 | digit;
    if (b->digits == HSB__BODY_DIGITS)
        return hsb__body_spend(b, HSB__BODY_IN_SIZE);
    b->digits++;
    return hsb__body_go(b, HSB__BODY_IN_SIZE);
}

/* RFC 9112 7.1.1: the state after c, which follows a size or a whole part of an extension.
   HSB__BODY_REFUSED: c may not follow.                                                */
static hsb__body_state hsb__body_part_ends(hsb__body_state state, char c)
{
    const bool name = state == HSB__BODY_IN_NAME || state == HSB__BODY_AFTER_NAME;
    const bool blanks = state == HSB__BODY_BEFORE_EXTENSION || state == HSB__BODY_AFTER_NAME;
    if (c == ';')
        return HSB__BODY_AT_NAME;
    if (c == '=' && name)
        return HSB__BODY_AT_VALUE;
    if (c == '\r' && !blanks)
        return HSB__BODY_AT_SIZE_LF;
    if (hsb__byte_is_blank(c))
        return name ? HSB__BODY_AFTER_NAME : HSB__BODY_BEFORE_EXTENSION;
    return HSB__BODY_REFUSED;
}

/* RFC 9112 7.1.1: *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ).  The state
   after c, as above.                                                                  */
static hsb__body_state hsb__body_extension(hsb__body_state state, char c)
{
    const bool blank = hsb__byte_is_blank(c), token = hsb__byte_is(c, HSB__BYTE_TOKEN);
    const bool quotable = hsb__byte_is(c, HSB__BYTE_FIELD);
    switch (state) {
    case HSB__BODY_AT_NAME:
        return blank ? state : token ? HSB__BODY_IN_NAME : HSB__BODY_REFUSED;
    case HSB__BODY_AT_VALUE:
        if (c == '"')
            return HSB__BODY_IN_QUOTES;
        return blank ? state : token ? HSB__BODY_IN_VALUE : HSB__BODY_REFUSED;
    case HSB__BODY_IN_QUOTES:
        if (c == '"')
            return HSB__BODY_AFTER_QUOTES;
        return c == '\\' ? HSB__BODY_AFTER_BACKSLASH : quotable ? state : HSB__BODY_REFUSED;
    case HSB__BODY_AFTER_BACKSLASH:
        return quotable ? HSB__BODY_IN_QUOTES : HSB__BODY_REFUSED;
    case HSB__BODY_IN_NAME:
    case HSB__BODY_IN_VALUE:
        return token ? state : hsb__body_part_ends(state, c);
    default:
        return hsb__body_part_ends(state, c);
    }
}

/* What follows the digits, which is skipped, but not without a limit.                  */
static hsb__body_event hsb__body_skip(hsb__body *b, char c)
{
    const hsb__body_state next = hsb__body_extension(b->state, c);
    if (next == HSB__BODY_AT_SIZE_LF)
        return hsb__body_go(b, next);
    if (next != HSB__BODY_REFUSED)
        return hsb__body_spend(b, next);
    return hsb__body_refuse(b, 400, b->state == HSB__BODY_IN_SIZE ? "chunk size is malformed"
                                                                 : "chunk extension is malformed");
}

static hsb__body_event hsb__body_at_size_lf(hsb__body *b, char c)
{
    if (c != '\n')
        return hsb__body_refuse(b, 400, "CR without LF");
    b->digits = 0;
    return hsb__body_go(b, b->left ? HSB__BODY_IN_CHUNK : HSB__BODY_AT_TRAILERS);
}

/* One byte that is not data.                                                          */
static hsb__body_event hsb__body_step(hsb__body *b, char c)
{
    const int digit = hsb__text_hex(c);
    switch (b->state) {
    case HSB__BODY_AT_SIZE:
        return hsb__body_digit(b, digit);
    case HSB__BODY_IN_SIZE:
        return digit >= 0 ? hsb__body_digit(b, digit) : hsb__body_skip(b, c);
    case HSB__BODY_AT_SIZE_LF:
        return hsb__body_at_size_lf(b, c);
    case HSB__BODY_AT_CHUNK_CR:
        return c == '\r' ? hsb__body_go(b, HSB__BODY_AT_CHUNK_LF)
                         : hsb__body_refuse(b, 400, "chunk is longer than its size");
    case HSB__BODY_AT_CHUNK_LF:
        return c == '\n' ? hsb__body_go(b, HSB__BODY_AT_SIZE)
                         : hsb__body_refuse(b, 400, "CR without LF");
    default:
        return hsb__body_skip(b, c);
    }
}

static bool hsb__body_in_data(const hsb__body *b)
{
    return b->state == HSB__BODY_IN_CHUNK || b->state == HSB__BODY_IN_LENGTH;
}

/* The part of the bytes that is data.                                                 */
static hsb__body_event hsb__body_data(hsb__body *b, hsb_str bytes, size_t *used, hsb_str *part)
{
    size_t n = (uint64_t)b->left < bytes.len ? (size_t)b->left : bytes.len;
    if (n == 0)
        return HSB__BODY_MORE;
    *part = hsb__text_make(bytes.ptr, n);
    *used += n;
    b->left -= (int64_t)n;
    if (b->left == 0 && b->state == HSB__BODY_IN_CHUNK)
        b->state = HSB__BODY_AT_CHUNK_CR;
    return HSB__BODY_DATA;
}

/* Uses up *used of the bytes and returns one event.  Call it again with the other bytes, even
   if there are none, until it returns MORE or one of the three ends.  After an end it returns
   the same again and uses nothing.                                                    */
static hsb__body_event hsb__body_read(hsb__body *b, const char *bytes, size_t len,
                                      size_t *used, hsb_str *part)
{
    hsb__body_event event = HSB__BODY_MORE;
    *used = 0;
    *part = hsb__text_absent();
    while (event == HSB__BODY_MORE && *used < len && !hsb__body_in_data(b) &&
           b->state < HSB__BODY_AT_TRAILERS)
        event = hsb__body_step(b, bytes[(*used)++]);
    if (b->state == HSB__BODY_REFUSED)
        return HSB__BODY_BAD;
    if (b->state == HSB__BODY_AT_TRAILERS)
        return HSB__BODY_TRAILERS;
    if (b->state == HSB__BODY_IN_LENGTH && b->left == 0)
        return HSB__BODY_DONE;
    if (hsb__body_in_data(b))
        return hsb__body_data(b, hsb__text_make(bytes + *used, len - *used), used, part);
    return event;
}

/* So many bytes of the data that was returned last were not used, and will come again.   */
static void hsb__body_give_back(hsb__body *b, size_t len)
{
    b->left += (int64_t)len;
    if (len && b->state == HSB__BODY_AT_CHUNK_CR)
        b->state = HSB__BODY_IN_CHUNK;
}

static const char *hsb__body_reason(const hsb__body *b)
{
    return b->reason ? b->reason : "";
}

/* ===== >>multipart ===============================================================
   Purpose  multipart/form-data (RFC 7578, RFC 2046 5.1): a strict state machine that finds
            the parts of a body and copies nothing but their heads
   Uses     >>text
   Names    hsb__multipart_*
   Tests    tests/unit/multipart.c, tests/fuzz/multipart.c, tests/wire/rfc7578-forms.txt

   The mark between two parts is CR LF "--" and the boundary.  CR is its first byte and occurs
   nowhere else in it.  So when a match fails, no other match can have begun within it, and
   the search never looks at a byte again: its cost is linear, wherever the body is cut.
   A body whose mark is followed by anything but blanks and CR LF, or "--", is refused: other
   parsers take such a line for a boundary, or for data, and would see other parts.       */

typedef enum hsb__multipart_state {
    HSB__MULTIPART_PREAMBLE,    /* what comes before the first mark, and is skipped    */
    HSB__MULTIPART_IN_DATA,     /* a part's data, and the mark that ends it            */
    HSB__MULTIPART_AFTER_MARK,  /* blanks, CR, or the first '-' after the last mark    */
    HSB__MULTIPART_AFTER_BLANKS,        /* more blanks, or CR (RFC 2046: transport-padding) */
    HSB__MULTIPART_AT_LF,
    HSB__MULTIPART_AT_DASH,     /* the second '-' after the last mark                  */
    HSB__MULTIPART_IN_HEAD,     /* a part's fields, and the empty line                 */
    HSB__MULTIPART_EPILOGUE,    /* what follows the last mark, and is skipped          */
    HSB__MULTIPART_REFUSED      /* nothing: status and reason say why                  */
} hsb__multipart_state;

enum { HSB__MULTIPART_BOUNDARY = 70 };  /* RFC 2046 5.1.1: a boundary's longest         */

typedef struct hsb__multipart {
    hsb__multipart_state state;
    char        mark[4 + HSB__MULTIPART_BOUNDARY];
    size_t      mark_len;
    size_t      matched;        /* bytes of the mark that were read, and may be data   */
    size_t      phantom;        /* of these, were not data: the CR LF of an empty line, and
                                   what is missing before a body that begins with "--"  */
    bool        in_part;
    char       *head;           /* the caller's, for the fields of one part            */
    size_t      head_space, head_len;
    size_t      line;           /* where in head the line that is being read begins    */
    int64_t     parts_left;
    hsb_part    part;           /* points into head                                    */
    int         status;         /* after HSB__MULTIPART_BAD: what to answer, and why   */
    const char *reason;
} hsb__multipart;

typedef enum hsb__multipart_event {
    HSB__MULTIPART_MORE,        /* all bytes were used; more are needed                */
    HSB__MULTIPART_PART,        /* a part has begun: see part                          */
    HSB__MULTIPART_DATA,        /* of the part: within the caller's bytes or in mark   */
    HSB__MULTIPART_END,         /* the part is whole                                   */
    HSB__MULTIPART_BAD
} hsb__multipart_event;

static hsb__multipart_event hsb__multipart_refuse(hsb__multipart *m, int status,
                                                  const char *reason)
{
    m->state = HSB__MULTIPART_REFUSED;
    m->status = status;
    m->reason = reason;
    return HSB__MULTIPART_BAD;
}

static hsb__multipart_event hsb__multipart_go(hsb__multipart *m, hsb__multipart_state state)
{
    m->state = state;
    return HSB__MULTIPART_MORE;
}

/* --- parameters --------------------------------------------------------------------- */
/* A token, or what is between quotes.  A backslash means itself: browsers send names with
   backslashes as they are (HTML Standard, "multipart/form-data encoding algorithm"), and
   write a quote as %22.  If a backslash quoted the next character, as in RFC 2045, the value
   of filename="C:\" would have no end.                                                 */
static bool hsb__multipart_value(hsb_str *rest, hsb_str *value)
{
    const bool quoted = rest->len && *rest->ptr == '"';
    if (!quoted) {
        *value = hsb__text_make(rest->ptr, hsb__byte_count(*rest, HSB__BYTE_TOKEN));
        *rest = hsb__text_after(*rest, value->len);
        return value->len > 0;
    }
    hsb_str inner = hsb__text_after(*rest, 1);
    *value = hsb__text_cut(&inner, '"');
    *rest = inner.ptr ? inner : *rest;
    return inner.ptr != NULL;
}

/* RFC 9110 5.6.6: the next of *( OWS ";" OWS [ token "=" value ] ).  0: there are no more;
   -1: malformed.                                                                       */
static int hsb__multipart_parameter(hsb_str *rest, hsb_str *name, hsb_str *value)
{
    for (;;) {
        *rest = hsb__text_trim(*rest);
        if (rest->len == 0)
            return 0;
        if (*rest->ptr != ';')
            return -1;
        *rest = hsb__text_trim(hsb__text_after(*rest, 1));
        *name = hsb__text_make(rest->ptr, hsb__byte_count(*rest, HSB__BYTE_TOKEN));
        if (name->len == 0)
            continue;
        *rest = hsb__text_after(*rest, name->len);
        if (rest->len == 0 || *rest->ptr != '=')
            return -1;
        *rest = hsb__text_after(*rest, 1);
        return hsb__multipart_value(rest, value) ? 1 : -1;
    }
}

/* RFC 2046 5.1.1: bchars, the last of which is not a space.                            */
static bool hsb__multipart_is_boundary(hsb_str s)
{
    if (s.len == 0 || s.len > HSB__MULTIPART_BOUNDARY || s.ptr[s.len - 1] == ' ')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!hsb__byte_is(s.ptr[i], HSB__BYTE_DIGIT | HSB__BYTE_LETTER) &&
            (s.ptr[i] == '\0' || !strchr("'()+_,-./:=? ", s.ptr[i])))
            return false;
    return true;
}

/* Is this value of Content-Type multipart/form-data?  *parameters is what follows it.   */
static bool hsb__multipart_is_type(hsb_str value, hsb_str *parameters)
{
    const char *semicolon = value.len ? memchr(value.ptr, ';', value.len) : NULL;
    const size_t len = semicolon ? (size_t)(semicolon - value.ptr) : value.len;
    *parameters = value.ptr ? hsb__text_after(value, len) : value;
    return hsb__text_is_nocase(hsb__text_trim(hsb__text_make(value.ptr, len)),
                               "multipart/form-data");
}

/* Absent: there is no boundary, or two, or it is invalid, or the parameters are.        */
static hsb_str hsb__multipart_boundary(hsb_str parameters)
{
    hsb_str boundary = hsb__text_absent(), name, value;
    int more;
    while ((more = hsb__multipart_parameter(&parameters, &name, &value)) > 0) {
        if (!hsb__text_is_nocase(name, "boundary"))
            continue;
        if (boundary.ptr || !hsb__multipart_is_boundary(value))
            return hsb__text_absent();
        boundary = value;
    }
    return more < 0 ? hsb__text_absent() : boundary;
}

/* --- a part's head ------------------------------------------------------------------ */
/* HTML Standard: in names a quote is %22, CR %0D, LF %0A, and nothing else is escaped.  s is
   in m->head, where its shorter form takes its place.                                  */
static hsb_str hsb__multipart_unescape(hsb__multipart *m, hsb_str s)
{
    char *out = m->head + (s.ptr - m->head);
    size_t len = 0;
    for (size_t i = 0; i < s.len; i++) {
        const bool three = s.len - i >= 3;
        char c = s.ptr[i];
        if (three && memcmp(s.ptr + i, "%22", 3) == 0)
            c = '"';
        else if (three && memcmp(s.ptr + i, "%0D", 3) == 0)
            c = '\r';
        else if (three && memcmp(s.ptr + i, "%0A", 3) == 0)
            c = '\n';
        i += c == s.ptr[i] ? 0 : 2;
        out[len++] = c;
    }
    return hsb__text_make(out, len);
}

/* RFC 7578 4.2: form-data with a name, and the file's name if the part is a file.  filename*
   is not to be sent, and is ignored like every parameter that is unknown.              */
static hsb__multipart_event hsb__multipart_disposition(hsb__multipart *m, hsb_str value)
{
    const size_t len = hsb__byte_count(value, HSB__BYTE_TOKEN);
    hsb_str rest = hsb__text_after(value, len), name;
    int more;
    if (m->part.name.ptr)
        return hsb__multipart_refuse(m, 400, "a part has two Content-Disposition fields");
    if (!hsb__text_is_nocase(hsb__text_make(value.ptr, len), "form-data"))
        return hsb__multipart_refuse(m, 400, "a part's Content-Disposition is not form-data");
    while ((more = hsb__multipart_parameter(&rest, &name, &value)) > 0) {
        hsb_str *to = hsb__text_is_nocase(name, "name")       ? &m->part.name
                      : hsb__text_is_nocase(name, "filename") ? &m->part.file_name
                                                              : NULL;
        if (to && to->ptr)
            return hsb__multipart_refuse(m, 400, "a part has two names");
        if (to)
            *to = hsb__multipart_unescape(m, value);
    }
    if (more < 0)
        return hsb__multipart_refuse(m, 400, "a part's Content-Disposition is malformed");
    if (!m->part.name.ptr)
        return hsb__multipart_refuse(m, 400, "a part has no name");
    return HSB__MULTIPART_MORE;
}

/* RFC 7578 4.8: all other fields are ignored.                                          */
static hsb__multipart_event hsb__multipart_field(hsb__multipart *m, hsb_str line)
{
    hsb_str value = line, name = hsb__text_cut(&value, ':');
    if (!value.ptr || !hsb__text_is_token(name))
        return hsb__multipart_refuse(m, 400, "a part's field name is not a token before a colon");
    value = hsb__text_trim(value);
    if (!hsb__text_is_field_value(value))
        return hsb__multipart_refuse(m, 400, "control character in a part's head");
    if (hsb__text_is_nocase(name, "Content-Disposition"))
        return hsb__multipart_disposition(m, value);
    if (!hsb__text_is_nocase(name, "Content-Type"))
        return HSB__MULTIPART_MORE;
    if (m->part.type.ptr)
        return hsb__multipart_refuse(m, 400, "a part has two Content-Type fields");
    m->part.type = value;
    return HSB__MULTIPART_MORE;
}

/* RFC 2046 5.1.1: data may be missing together with the empty line, whose CR LF is that of
   the mark then.  So this CR LF is the beginning of a mark, but not of the data.        */
static hsb__multipart_event hsb__multipart_head_done(hsb__multipart *m)
{
    if (!m->part.name.ptr)
        return hsb__multipart_refuse(m, 400, "a part has no name");
    m->state = HSB__MULTIPART_IN_DATA;
    m->in_part = true;
    m->matched = m->phantom = 2;
    m->parts_left--;
    return HSB__MULTIPART_PART;
}

/* A line of the head has ended.                                                        */
static hsb__multipart_event hsb__multipart_line(hsb__multipart *m)
{
    hsb_str line = hsb__text_make(m->head + m->line, m->head_len - m->line);
    if (line.len < 2 || line.ptr[line.len - 2] != '\r')
        return hsb__multipart_refuse(m, 400, "LF without CR in a part's head");
    line.len -= 2;
    m->line = m->head_len;
    return line.len ? hsb__multipart_field(m, line) : hsb__multipart_head_done(m);
}

static hsb__multipart_event hsb__multipart_in_head(hsb__multipart *m, hsb_str s, size_t *used)
{
    const char *lf = memchr(s.ptr, '\n', s.len);
    const size_t n = lf ? (size_t)(lf - s.ptr) + 1 : s.len;
    if (m->parts_left == 0)
        return hsb__multipart_refuse(m, 413, "too many parts");
    if (n > m->head_space - m->head_len)
        return hsb__multipart_refuse(m, 413, "the head of a part is too long");
    memcpy(m->head + m->head_len, s.ptr, n);
    m->head_len += n;
    *used = n;
    return lf ? hsb__multipart_line(m) : HSB__MULTIPART_MORE;
}

/* --- data and marks ----------------------------------------------------------------- */
/* The length of what is data for sure at the start of s.  What follows it are *matched bytes of
   the mark: all of the mark, or so many as there are.                                  */
static size_t hsb__multipart_find(const hsb__multipart *m, hsb_str s, size_t *matched)
{
    const char *at = s.ptr, *end = s.ptr + s.len;
    while (at < end && (at = memchr(at, '\r', (size_t)(end - at))) != NULL) {
        const size_t left = (size_t)(end - at), n = left < m->mark_len ? left : m->mark_len;
        if ((left == 1 || at[1] == '\n') && memcmp(at, m->mark, n) == 0) {
            *matched = n;
            return (size_t)(at - s.ptr);
        }
        at++;
    }
    *matched = 0;
    return s.len;
}

/* Goes on with a mark whose first bytes were read.  If it is none, they are data.       */
static hsb__multipart_event hsb__multipart_match(hsb__multipart *m, hsb_str s, size_t *used,
                                                 hsb_str *data)
{
    size_t n = 0;
    while (n < s.len && m->matched < m->mark_len && s.ptr[n] == m->mark[m->matched]) {
        n++;
        m->matched++;
    }
    *used = n;
    if (m->matched == m->mark_len)
        return hsb__multipart_go(m, HSB__MULTIPART_AFTER_MARK);
    if (n == s.len)
        return HSB__MULTIPART_MORE;
    *data = hsb__text_make(m->mark + m->phantom, m->matched - m->phantom);
    m->matched = m->phantom = 0;
    return data->len ? HSB__MULTIPART_DATA : HSB__MULTIPART_MORE;
}

static hsb__multipart_event hsb__multipart_in_data(hsb__multipart *m, hsb_str s, size_t *used,
                                                   hsb_str *data)
{
    if (m->matched)
        return hsb__multipart_match(m, s, used, data);
    const size_t len = hsb__multipart_find(m, s, &m->matched);
    *used = len + m->matched;
    *data = hsb__text_make(s.ptr, len);
    if (m->matched == m->mark_len)
        m->state = HSB__MULTIPART_AFTER_MARK;
    return len ? HSB__MULTIPART_DATA : HSB__MULTIPART_MORE;
}

/* The line of a mark has ended, or the last mark has: so has the part before it.        */
static hsb__multipart_event hsb__multipart_mark_done(hsb__multipart *m,
                                                     hsb__multipart_state next)
{
    const bool in_part = m->in_part;
    memset(&m->part, 0, sizeof m->part);
    m->matched = m->phantom = m->head_len = m->line = 0;
    m->in_part = false;
    m->state = next;
    return in_part ? HSB__MULTIPART_END : HSB__MULTIPART_MORE;
}

/* One byte between a mark and what follows it.                                         */
static hsb__multipart_event hsb__multipart_after_mark(hsb__multipart *m, char c)
{
    const hsb__multipart_state state = m->state;
    if (state == HSB__MULTIPART_AT_LF && c == '\n')
        return hsb__multipart_mark_done(m, HSB__MULTIPART_IN_HEAD);
    if (state == HSB__MULTIPART_AT_DASH && c == '-')
        return hsb__multipart_mark_done(m, HSB__MULTIPART_EPILOGUE);
    if (state == HSB__MULTIPART_AFTER_MARK && c == '-')
        return hsb__multipart_go(m, HSB__MULTIPART_AT_DASH);
    if (state == HSB__MULTIPART_AFTER_MARK || state == HSB__MULTIPART_AFTER_BLANKS) {
        if (c == '\r')
            return hsb__multipart_go(m, HSB__MULTIPART_AT_LF);
        if (hsb__byte_is_blank(c))
            return hsb__multipart_go(m, HSB__MULTIPART_AFTER_BLANKS);
    }
    return hsb__multipart_refuse(m, 400, "a boundary is not alone on its line");
}

/* --- the reader --------------------------------------------------------------------- */
/* Not a switch: its jump table would keep this section in programs that never call it, unless
   they are built with -fdata-sections.                                                 */
static hsb__multipart_event hsb__multipart_step(hsb__multipart *m, hsb_str s, size_t *used,
                                                hsb_str *data)
{
    if (m->state == HSB__MULTIPART_PREAMBLE || m->state == HSB__MULTIPART_IN_DATA) {
        hsb__multipart_event event = hsb__multipart_in_data(m, s, used, data);
        return m->in_part ? event : HSB__MULTIPART_MORE;
    }
    if (m->state == HSB__MULTIPART_IN_HEAD)
        return hsb__multipart_in_head(m, s, used);
    if (m->state == HSB__MULTIPART_REFUSED)
        return HSB__MULTIPART_BAD;
    if (m->state == HSB__MULTIPART_EPILOGUE) {
        *used = s.len;
        return HSB__MULTIPART_MORE;
    }
    *used = 1;
    return hsb__multipart_after_mark(m, *s.ptr);
}

/* boundary is valid: see hsb__multipart_boundary.  head, of so many bytes, is borrowed.  parts
   is how many may come; -1: any number.                                                */
static void hsb__multipart_start(hsb__multipart *m, hsb_str boundary, char *head, size_t space,
                                 int64_t parts)
{
    memset(m, 0, sizeof *m);
    memcpy(m->mark, "\r\n--", 4);
    memcpy(m->mark + 4, boundary.ptr, boundary.len);
    m->mark_len = 4 + boundary.len;
    m->matched = m->phantom = 2;        /* a body may begin with the boundary           */
    m->head = head;
    m->head_space = space;
    m->parts_left = parts;
}

/* Uses up *used of the bytes and returns one event.  Call it again with the other bytes until it
   returns MORE or BAD.  When all bytes are used, no event is left to be asked for.  *data is
   set by DATA only.                                                                    */
static hsb__multipart_event hsb__multipart_read(hsb__multipart *m, const char *bytes, size_t len,
                                                size_t *used, hsb_str *data)
{
    hsb__multipart_event event = HSB__MULTIPART_MORE;
    *used = 0;
    while (event == HSB__MULTIPART_MORE && *used < len) {
        size_t n = 0;
        event = hsb__multipart_step(m, hsb__text_make(bytes + *used, len - *used), &n, data);
        *used += n;
    }
    return m->state == HSB__MULTIPART_REFUSED ? HSB__MULTIPART_BAD : event;
}

/* The body has ended.  False: it must not end here; status and reason say why.          */
static bool hsb__multipart_end(hsb__multipart *m)
{
    if (m->state != HSB__MULTIPART_EPILOGUE && m->state != HSB__MULTIPART_REFUSED)
        hsb__multipart_refuse(m, 400, "the last boundary is missing");
    return m->state == HSB__MULTIPART_EPILOGUE;
}

/* ===== >>outgoing ================================================================
   Purpose  what waits to be sent: bytes, then one long source (memory that is lent to us,
            or a part of a file), pulled as the transport takes them
   Uses     >>platform >>memory >>buffer
   Names    hsb__outgoing_*, hsb__source_*
   Tests    tests/unit/outgoing.c                                                    */

/* bytes or the file, from `from` on.                                                   */
typedef struct hsb__source {
    int         fd;             /* owned; -1: bytes                                    */
    const char *bytes;          /* borrowed until release                              */
    void      (*release)(void *arg);
    void       *arg;
    int64_t     from, left;     /* the next byte; how many are still to be sent        */
} hsb__source;

typedef struct hsb__outgoing {
    hsb__buffer  bytes;         /* goes first                                          */
    hsb__source *source;        /* then this; from the pool                            */
    size_t       source_size;   /* of its block                                        */
} hsb__outgoing;

static bool hsb__outgoing_empty(const hsb__outgoing *o)
{
    return !o->source && hsb__buffer_len(&o->bytes) == 0;
}

static uint64_t hsb__outgoing_len(const hsb__outgoing *o)
{
    return hsb__buffer_len(&o->bytes) + (uint64_t)(o->source ? o->source->left : 0);
}

static void hsb__outgoing_drop_source(hsb__outgoing *o)
{
    hsb__source *s = o->source;
    if (!s)
        return;
    o->source = NULL;
    if (s->fd >= 0)
        hsb__os_close_file(s->fd);
    if (s->release)
        s->release(s->arg);
    hsb__pool_put(o->bytes.pool, s, o->source_size);
}

static void hsb__outgoing_clear(hsb__outgoing *o)
{
    hsb__outgoing_drop_source(o);
    hsb__buffer_release(&o->bytes);
}

/* All of `from` goes to `to`, which is empty.                                           */
static void hsb__outgoing_move(hsb__outgoing *to, hsb__outgoing *from)
{
    hsb__pool *pool = from->bytes.pool;
    *to = *from;
    memset(from, 0, sizeof *from);
    from->bytes.pool = pool;
}

/* A zeroed source, queued after the bytes; NULL: out of memory.                         */
static hsb__source *hsb__outgoing_add_source(hsb__outgoing *o)
{
    size_t size = sizeof(hsb__source);
    HSB_ASSERT(!o->source);
    hsb__source *s = hsb__pool_get(o->bytes.pool, &size);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    s->fd = -1;
    o->source = s;
    o->source_size = size;
    return s;
}

/* Copies up to len bytes of the source to out.  -1: the file failed or shrank.          */
static ptrdiff_t hsb__outgoing_pull_source(hsb__outgoing *o, char *out, size_t len)
{
    hsb__source *s = o->source;
    size_t want = (uint64_t)s->left < len ? (size_t)s->left : len;
    ptrdiff_t n = (ptrdiff_t)want;
    if (s->fd < 0)
        memcpy(out, s->bytes + s->from, want);
    else if (want > 0)
        n = hsb__os_pread(s->fd, out, want, s->from);
    if (n < 0 || (n == 0 && want > 0))
        return -1;
    s->from += n;
    s->left -= n;
    if (s->left == 0)
        hsb__outgoing_drop_source(o);
    return n;
}

/* Moves up to len bytes to out: how many, or -1 when the source failed.                 */
static ptrdiff_t hsb__outgoing_pull(hsb__outgoing *o, char *out, size_t len)
{
    size_t total = 0;
    while (total < len && !hsb__outgoing_empty(o)) {
        size_t n = hsb__buffer_len(&o->bytes);
        if (n > 0) {
            n = n < len - total ? n : len - total;
            memcpy(out + total, hsb__buffer_data(&o->bytes), n);
            hsb__buffer_taken(&o->bytes, n);
        } else {
            ptrdiff_t got = hsb__outgoing_pull_source(o, out + total, len - total);
            if (got < 0)
                return -1;
            n = (size_t)got;
        }
        total += n;
    }
    return (ptrdiff_t)total;
}

/* ===== >>frame ===================================================================
   Purpose  writes status line, fields and chunks into a buffer
   Uses     >>text >>buffer
   Names    hsb__frame_*
   Tests    tests/unit/frame.c                                                       */

typedef struct hsb__reason { int status; const char *text; } hsb__reason;
static const hsb__reason hsb__frame_reasons[] = {       /* RFC 9110 15, in order       */
    { 100, "Continue" }, { 101, "Switching Protocols" }, { 103, "Early Hints" },
    { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" },
    { 203, "Non-Authoritative Information" }, { 204, "No Content" }, { 205, "Reset Content" },
    { 206, "Partial Content" }, { 300, "Multiple Choices" }, { 301, "Moved Permanently" },
    { 302, "Found" }, { 303, "See Other" }, { 304, "Not Modified" },
    { 307, "Temporary Redirect" }, { 308, "Permanent Redirect" }, { 400, "Bad Request" },
    { 401, "Unauthorized" }, { 402, "Payment Required" }, { 403, "Forbidden" },
    { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
    { 407, "Proxy Authentication Required" }, { 408, "Request Timeout" }, { 409, "Conflict" },
    { 410, "Gone" }, { 411, "Length Required" }, { 412, "Precondition Failed" },
    { 413, "Content Too Large" }, { 414, "URI Too Long" }, { 415, "Unsupported Media Type" },
    { 416, "Range Not Satisfiable" }, { 417, "Expectation Failed" },
    { 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 425, "Too Early" },
    { 426, "Upgrade Required" }, { 428, "Precondition Required" }, { 429, "Too Many Requests" },
    { 431, "Request Header Fields Too Large" }, { 451, "Unavailable For Legal Reasons" },
    { 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" },
    { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
    { 505, "HTTP Version Not Supported" }, { 507, "Insufficient Storage" },
    { 511, "Network Authentication Required" },
};

/* RFC 9112 4: the reason phrase may be empty; it is for a status not in the table.      */
static const char *hsb__frame_reason(int status)
{
    size_t low = 0, high = sizeof hsb__frame_reasons / sizeof *hsb__frame_reasons;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (hsb__frame_reasons[middle].status == status)
            return hsb__frame_reasons[middle].text;
        if (hsb__frame_reasons[middle].status < status)
            low = middle + 1;
        else
            high = middle;
    }
    return "";
}

/* RFC 9110 6.4.1, 15.2, 15.3.5, 15.4.5: no matter what the application writes.          */
static bool hsb__frame_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* RFC 9110 2.5: we send our own version, whatever the client's is.                      */
static bool hsb__frame_status_line(hsb__buffer *out, int status)
{
    const char *reason = hsb__frame_reason(status);
    size_t len = strlen(reason);
    char *at = hsb__buffer_reserve(out, 16 + len);
    if (!at)
        return false;
    memcpy(at, "HTTP/1.1 000 ", 13);
    at[9] = (char)('0' + status / 100);
    at[10] = (char)('0' + status / 10 % 10);
    at[11] = (char)('0' + status % 10);
    memcpy(at + 13, reason, len);
    memcpy(at + 13 + len, "\r\n", 2);
    hsb__buffer_added(out, 15 + len);
    return true;
}

/* The caller has checked name and value: see hsb__frame_field_allowed.                  */
static bool hsb__frame_field(hsb__buffer *out, const char *name, hsb_str value)
{
    size_t len = strlen(name);
    if (value.len > SIZE_MAX / 2 - len)
        return false;
    char *at = hsb__buffer_reserve(out, len + value.len + 4);
    if (!at)
        return false;
    memcpy(at, name, len);
    memcpy(at + len, ": ", 2);
    if (value.len)
        memcpy(at + len + 2, value.ptr, value.len);
    memcpy(at + len + 2 + value.len, "\r\n", 2);
    hsb__buffer_added(out, len + value.len + 4);
    return true;
}

static bool hsb__frame_number_field(hsb__buffer *out, const char *name, int64_t value)
{
    char digits[20];
    return hsb__frame_field(out, name,
                            hsb__text_make(digits, hsb__text_print(digits, (uint64_t)value)));
}

/* Whether the application may set this field: the name is a token, the value has no control
   characters, and the field is not one of those that we write ourselves.                */
static bool hsb__frame_field_allowed(const char *name, const char *value)
{
    static const char *const ours[] = { "content-length", "transfer-encoding", "connection",
                                        "keep-alive", "date" };
    hsb_str n = hsb__text_of(name);
    if (!value || !hsb__text_is_token(n) || !hsb__text_is_field_value(hsb__text_of(value)))
        return false;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (hsb__text_is_nocase(n, ours[i]))
            return false;
    return true;
}

/* RFC 9112 7.1: "1a2b" CRLF data CRLF.  The caller passes no empty part, because that would
   be the last chunk.                                                                    */
static bool hsb__frame_chunk(hsb__buffer *out, hsb_str part)
{
    char size[20];
    HSB_ASSERT(part.len > 0);
    if (part.len > SIZE_MAX / 2)
        return false;
    int n = snprintf(size, sizeof size, "%llx\r\n", (unsigned long long)part.len);
    char *at = n > 0 ? hsb__buffer_reserve(out, (size_t)n + part.len + 2) : NULL;
    if (!at)
        return false;
    memcpy(at, size, (size_t)n);
    memcpy(at + n, part.ptr, part.len);
    memcpy(at + n + part.len, "\r\n", 2);
    hsb__buffer_added(out, (size_t)n + part.len + 2);
    return true;
}

/* ===== >>peers ===================================================================
   Purpose  how many connections each peer address has, for limits.per_address
   Uses     >>platform >>memory >>list
   Names    hsb__peers_*, hsb__peer
   Tests    tests/unit/peers.c, tests/live/limits.c                                  */

/* An address with at least one connection.  One IPv6 host may use all addresses of its /64
   (RFC 4291 2.5.4), so these 64 bits are all that counts.                             */
typedef struct hsb__peer {
    hsb__link  link;                /* in its bucket                                   */
    uint64_t   prefix;
    hsb_family family;
    int        connections;
} hsb__peer;

/* A hash table that doubles when it has as many addresses as buckets.  The secret keeps
   peers from choosing addresses that meet in one bucket.                              */
typedef struct hsb__peers {
    hsb__memory *memory;
    hsb__link   *buckets;
    size_t       space;             /* buckets: 0, or a power of two                   */
    size_t       count;             /* addresses                                       */
    uint64_t     secret;
} hsb__peers;

enum { HSB__PEERS_FIRST = 64 };

static uint64_t hsb__peers_prefix(const hsb_address *a)
{
    uint64_t prefix = 0;
    for (size_t i = 0; i < (a->family == HSB_IPV4 ? 4 : 8); i++)
        prefix = prefix << 8 | a->bytes[i];
    return prefix;
}

/* The finalizer of splitmix64.                                                        */
static hsb__link *hsb__peers_bucket(const hsb__peers *p, hsb__link *buckets, size_t space,
                                    uint64_t prefix)
{
    uint64_t z = prefix ^ p->secret;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return &buckets[(z ^ z >> 31) & (space - 1)];
}

static bool hsb__peers_grow(hsb__peers *p)
{
    size_t space = p->space ? p->space * 2 : HSB__PEERS_FIRST;
    hsb__link *first, *buckets = hsb__memory_array(p->memory, space, sizeof *buckets);
    if (!buckets)
        return false;
    for (size_t i = 0; i < p->space; i++)
        while ((first = hsb__link_first(&p->buckets[i])) != NULL) {
            uint64_t prefix = HSB__OWNER(hsb__peer, link, first)->prefix;
            hsb__link_remove(first);
            hsb__link_add(hsb__peers_bucket(p, buckets, space, prefix), first);
        }
    hsb__memory_free(p->memory, p->buckets, p->space * sizeof *p->buckets);
    p->buckets = buckets;
    p->space = space;
    return true;
}

static bool hsb__peers_open(hsb__peers *p, hsb__memory *memory)
{
    memset(p, 0, sizeof *p);
    p->memory = memory;
    return hsb__os_entropy(&p->secret, sizeof p->secret) && hsb__peers_grow(p);
}

/* All connections must have left before.                                              */
static void hsb__peers_close(hsb__peers *p)
{
    hsb__memory_free(p->memory, p->buckets, p->space * sizeof *p->buckets);
    p->buckets = NULL;
    p->space = 0;
}

static hsb__peer *hsb__peers_find(const hsb__peers *p, hsb_family family, uint64_t prefix)
{
    const hsb__link *bucket = hsb__peers_bucket(p, p->buckets, p->space, prefix);
    for (hsb__link *l = hsb__link_first(bucket); l; l = hsb__link_next(bucket, l)) {
        hsb__peer *peer = HSB__OWNER(hsb__peer, link, l);
        if (peer->prefix == prefix && peer->family == family)
            return peer;
    }
    return NULL;
}

/* One connection more of an address.  NULL: out of memory.                            */
static hsb__peer *hsb__peers_enter(hsb__peers *p, const hsb_address *a)
{
    uint64_t prefix = hsb__peers_prefix(a);
    hsb__peer *peer = hsb__peers_find(p, a->family, prefix);
    if (!peer) {
        if (p->count >= p->space)
            hsb__peers_grow(p);                 /* if not, the buckets get longer       */
        peer = hsb__memory_zeroed(p->memory, sizeof *peer);
        if (!peer)
            return NULL;
        peer->prefix = prefix;
        peer->family = a->family;
        hsb__link_add(hsb__peers_bucket(p, p->buckets, p->space, prefix), &peer->link);
        p->count++;
    }
    peer->connections++;
    return peer;
}

static void hsb__peers_leave(hsb__peers *p, hsb__peer *peer)
{
    if (--peer->connections > 0)
        return;
    hsb__link_remove(&peer->link);
    hsb__memory_free(p->memory, peer, sizeof *peer);
    p->count--;
}

/* ===== >>proxy ===================================================================
   Purpose  PROXY headers: who the client of a proxy is (proxy-protocol.txt of haproxy)
   Uses     >>platform >>memory >>text
   Names    hsb__proxy_*, hsb__proxy
   Tests    tests/unit/proxy.c, tests/live/proxy.c, tests/fuzz/proxy.c,
            tests/check/proxies.sh                                                    */

/* A proxy that passes bytes on, and TLS with them, tells us the client in a header before the
   first byte.  Version 1 is a line of text:

     PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n      from, to, and their ports
     PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n
     PROXY UNKNOWN ...\r\n                                whatever comes before the CRLF

   Version 2 is binary:

     12 bytes   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A
      1         0x20 LOCAL: a connection of the proxy's own, such as a health check
                0x21 PROXY: the addresses are a client's
      1         family (0 none, 1 IPv4, 2 IPv6, 3 Unix) * 16 + kind (0 none, 1 stream, 2 datagram)
      2         how many bytes follow, big-endian
     12, 36     from, to, and their ports; Unix: 216 bytes, two paths
      n         more facts, each with a type, a length of two bytes, and a value

   LOCAL, UNKNOWN, no family, and what is not a stream keep the real peer.  The more facts are
   skipped, and so is their checksum: TCP has one of its own, and so has TLS.  A header that
   differs from this by a byte is malformed: guessing who the client is would be worse than
   not to serve it.                                                                        */
enum {
    HSB__PROXY_LINE   = 107,            /* version 1, with CR and LF                       */
    HSB__PROXY_FIXED  = 16,             /* version 2, before the addresses                 */
    HSB__PROXY_PATH   = 108,            /* of a Unix socket in version 2                   */
    HSB__PROXY_KEPT   = HSB__PROXY_FIXED + 2 * HSB__PROXY_PATH,
    HSB__PROXY_HEADER = 4096            /* version 2 in all; haproxy sends a few hundred   */
};

typedef struct hsb__proxy {
    size_t      size;                   /* of our memory                                   */
    size_t      len;                    /* bytes received so far                           */
    bool        whole;                  /* the header is complete                          */
    bool        named;                  /* and says who the client is:                     */
    hsb_address client;
    const char *wrong;                  /* why the header is malformed; NULL: it is not    */
    size_t      total;                  /* version 2: how long the header is,              */
    size_t      fact, fact_len;         /*   where the next fact begins, and its length    */
    uint8_t     bytes[HSB__PROXY_KEPT]; /* the first bytes; longer ones are not looked at  */
} hsb__proxy;

static const uint8_t hsb__proxy_line_start[] = { 'P', 'R', 'O', 'X', 'Y', ' ' };
static const uint8_t hsb__proxy_signature[] = {
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A
};

static hsb__proxy *hsb__proxy_new(hsb__pool *pool)
{
    size_t size = sizeof(hsb__proxy);
    hsb__proxy *p = hsb__pool_get(pool, &size);
    if (p) {
        memset(p, 0, sizeof *p);
        p->size = size;
    }
    return p;
}

/* NULL does nothing.                                                                        */
static void hsb__proxy_release(hsb__pool *pool, hsb__proxy *p)
{
    if (p)
        hsb__pool_put(pool, p, p->size);
}

/* One peer has one address, also here: ::ffff:192.0.2.1 is 192.0.2.1.                     */
static void hsb__proxy_set_ip(hsb_address *a, hsb_family family, const uint8_t *bytes,
                              unsigned port)
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF };
    bool v4 = family == HSB_IPV6 && memcmp(bytes, mapped, sizeof mapped) == 0;
    memset(a, 0, sizeof *a);
    a->family = v4 ? HSB_IPV4 : family;
    memcpy(a->bytes, v4 ? bytes + sizeof mapped : bytes, a->family == HSB_IPV4 ? 4 : 16);
    a->port = (uint16_t)port;
}

/* --- version 1 ----------------------------------------------------------------------------- */
/* What comes before the next space, or all; *rest goes on after it, and is absent at the end. */
static hsb_str hsb__proxy_word(hsb_str *rest)
{
    const char *space = rest->ptr ? memchr(rest->ptr, ' ', rest->len) : NULL;
    hsb_str word = *rest;
    *rest = hsb__text_absent();
    if (space) {
        size_t len = (size_t)(space - word.ptr);
        *rest = hsb__text_after(word, len + 1);
        word.len = len;
    }
    return word;
}

static bool hsb__proxy_ip(hsb_str word, hsb_family family, uint8_t out[16])
{
    char number[HSB__IP_TEXT] = "";
    if (word.len == 0 || word.len >= sizeof number || memchr(word.ptr, 0, word.len))
        return false;
    memcpy(number, word.ptr, word.len);
    return hsb__os_ip_parse(family, number, out);
}

/* Without a zero before another digit.                                                      */
static bool hsb__proxy_port(hsb_str word, unsigned *out)
{
    int64_t port = 0;
    if (!hsb__text_decimal(word, UINT16_MAX, &port) || (word.len > 1 && word.ptr[0] == '0'))
        return false;
    *out = (unsigned)port;
    return true;
}

/* rest: the line after "PROXY ", without its CRLF.                                           */
static void hsb__proxy_read_line(hsb__proxy *p, hsb_str rest)
{
    uint8_t from[16], to[16];
    unsigned from_port = 0, to_port = 0;
    hsb_str kind = hsb__proxy_word(&rest);
    p->whole = true;
    if (hsb__text_is(kind, "UNKNOWN"))
        return;
    hsb_family family = hsb__text_is(kind, "TCP4") ? HSB_IPV4 :
                        hsb__text_is(kind, "TCP6") ? HSB_IPV6 : HSB_FAMILY_ANY;
    if (family == HSB_FAMILY_ANY)
        p->wrong = "neither TCP4, TCP6 nor UNKNOWN";
    else if (!hsb__proxy_ip(hsb__proxy_word(&rest), family, from) ||
             !hsb__proxy_ip(hsb__proxy_word(&rest), family, to))
        p->wrong = "an address is invalid";
    else if (!hsb__proxy_port(hsb__proxy_word(&rest), &from_port) ||
             !hsb__proxy_port(hsb__proxy_word(&rest), &to_port))
        p->wrong = "a port is invalid";
    else if (rest.ptr)
        p->wrong = "more than two ports";
    else
        hsb__proxy_set_ip(&p->client, family, from, from_port);
    p->named = !p->wrong;
}

static void hsb__proxy_take_line(hsb__proxy *p, size_t at, uint8_t byte)
{
    const size_t start = sizeof hsb__proxy_line_start;
    if (at < start) {
        if (byte != hsb__proxy_line_start[at])
            p->wrong = "neither version 1 nor 2";
    } else if ((byte == '\n') != (p->bytes[at - 1] == '\r')) {
        p->wrong = "CR and LF are apart";
    } else if (byte == '\n') {
        hsb__proxy_read_line(p, hsb__text_make((const char *)p->bytes + start, at - 1 - start));
    } else if (at + 1 >= HSB__PROXY_LINE) {
        p->wrong = "the line is longer than 107 bytes";
    }
}

/* --- version 2 ----------------------------------------------------------------------------- */
/* The bytes before the addresses are there.  Where nobody is named, what follows is skipped.  */
static void hsb__proxy_read_fixed(hsb__proxy *p)
{
    static const size_t addresses[] = { 0, 12, 36, 2 * HSB__PROXY_PATH };   /* by family       */
    const unsigned command = p->bytes[12], family = p->bytes[13] >> 4, kind = p->bytes[13] & 15;
    p->total = HSB__PROXY_FIXED + ((size_t)p->bytes[14] << 8 | p->bytes[15]);
    p->fact = p->total;
    if (command != 0x20 && command != 0x21)
        p->wrong = "neither LOCAL nor PROXY of version 2";
    else if (p->total > HSB__PROXY_HEADER)
        p->wrong = "longer than 4096 bytes";
    else if (command == 0x21 && (family > 3 || kind > 2))
        p->wrong = "no such family of addresses";
    else if (command == 0x21 && family > 0 && kind == 1) {
        p->named = true;
        p->fact = HSB__PROXY_FIXED + addresses[family];
    }
    if (p->fact > p->total)
        p->wrong = "too short for its addresses";
}

/* The byte at belongs to the type, the length or the value of a fact.                         */
static void hsb__proxy_take_fact(hsb__proxy *p, size_t at, uint8_t byte)
{
    if (at == p->fact + 1)
        p->fact_len = (size_t)byte << 8;
    if (at == p->fact + 2)
        p->fact += 3 + (p->fact_len | byte);
}

static void hsb__proxy_read_addresses(hsb__proxy *p)
{
    const uint8_t *from = p->bytes + HSB__PROXY_FIXED;
    switch (p->bytes[13] >> 4) {
    case 1:
        hsb__proxy_set_ip(&p->client, HSB_IPV4, from, (unsigned)(from[8] << 8 | from[9]));
        break;
    case 2:
        hsb__proxy_set_ip(&p->client, HSB_IPV6, from, (unsigned)(from[32] << 8 | from[33]));
        break;
    default:
        p->client.family = HSB_UNIX;
        memcpy(p->client.path, from, HSB__PROXY_PATH);
        if (p->client.path[0] == '\0' && p->client.path[1] != '\0')
            p->client.path[0] = '@';                /* as for accepted ones                    */
    }
}

static void hsb__proxy_take_binary(hsb__proxy *p, size_t at, uint8_t byte)
{
    if (at < sizeof hsb__proxy_signature && byte != hsb__proxy_signature[at])
        p->wrong = "neither version 1 nor 2";
    if (at == HSB__PROXY_FIXED - 1)
        hsb__proxy_read_fixed(p);
    if (at < HSB__PROXY_FIXED - 1 || p->wrong)
        return;
    hsb__proxy_take_fact(p, at, byte);
    if (at + 1 < p->total)
        return;
    p->whole = true;
    if (p->fact != p->total)
        p->wrong = "a value does not end with the header";
    else if (p->named)
        hsb__proxy_read_addresses(p);
}

/* --- both ---------------------------------------------------------------------------------- */
/* Returns how many bytes belong to the header: less than s has once it is whole or wrong.      */
static size_t hsb__proxy_receive(hsb__proxy *p, hsb_str s)
{
    size_t used = 0;
    while (used < s.len && !p->whole && !p->wrong) {
        const uint8_t byte = (uint8_t)s.ptr[used++];
        const size_t at = p->len++;
        if (at < sizeof p->bytes)
            p->bytes[at] = byte;
        if (p->bytes[0] == hsb__proxy_signature[0])
            hsb__proxy_take_binary(p, at, byte);
        else
            hsb__proxy_take_line(p, at, byte);
    }
    return used;
}

/* ===== >>channel =================================================================
   Purpose  what a request has in common with the stream that it may become: the way to
            the peer, the end that was asked for, flow marks, timers, tickets
   Uses     >>list >>buffer >>error >>inbox >>loop >>outgoing
   Names    hsb__channel_*, hsb__ending
   Tests    tests/live/streams.c, tests/live/responses.c, tests/live/closing.c       */

/* "Please end": how the connection is to end, as far as somebody has asked for it.  This is
   the only place where that is kept.  It never goes back down, and it outlives a request.  */
typedef enum hsb__ending {
    HSB__STAYS,
    HSB__LAST_ANSWER,           /* after this answer; a stream made of the request stays */
    HSB__ENDS,                  /* after this answer, or after what the stream queued    */
    HSB__ENDS_NOW
} hsb__ending;

/* How a request or a stream reaches its connection: through this struct only.           */
typedef struct hsb__channel {
    hsb__loop    *loop;
    hsb_conn     *conn;                 /* opaque here; for schedule and for hooks       */
    void        (*schedule)(hsb_conn *);    /* step the connection before the loop waits */
    hsb_error    *why;                  /* the connection's: the first error counts      */
    hsb__outgoing out;                  /* what waits to be sent                         */
    hsb__ending   ending;
    bool          paused;               /* the application wants no bytes for now        */
    bool          drain_due;            /* it was told to wait, so on_drain is owed      */
    hsb__link     afters;               /* timers of hsb_request_after, hsb_stream_after */
    uint32_t      promises;             /* open tickets; a list in the inbox             */
} hsb__channel;

static void hsb__channel_init(hsb__channel *ch, hsb__loop *loop, hsb_conn *conn, hsb_error *why,
                              void (*schedule)(hsb_conn *))
{
    memset(ch, 0, sizeof *ch);
    ch->loop = loop;
    ch->conn = conn;
    ch->why = why;
    ch->schedule = schedule;
    ch->out.bytes.pool = &loop->pool;
}

static void hsb__channel_schedule(const hsb__channel *ch)
{
    ch->schedule(ch->conn);
}

/* Records an error of the connection, unless one was recorded before.                   */
__attribute__((format(printf, 3, 4)))
static void hsb__channel_record(const hsb__channel *ch, hsb_status status, const char *format, ...)
{
    char text[sizeof ch->why->text];
    va_list args;
    if (ch->why->status != HSB_OK)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hsb__error_set(ch->why, status, 0, 0, "%s", text);
}

static void hsb__channel_end(hsb__channel *ch, hsb__ending ending)
{
    if (ch->ending < ending)
        ch->ending = ending;
    hsb__channel_schedule(ch);
}

/* --- flow marks ----------------------------------------------------------------------- */
/* Above the mark the writer should wait for on_drain.                                   */
static hsb_flow hsb__channel_flow(hsb__channel *ch)
{
    size_t mark = hsb__options_limit(ch->loop->options.limits.queued_bytes);
    if (hsb__buffer_len(&ch->out.bytes) <= mark)
        return HSB_FLOW_GO;
    ch->drain_due = true;
    return HSB_FLOW_WAIT;
}

/* A writer that goes on after HSB_FLOW_WAIT is stopped at 16 times the mark.            */
static bool hsb__channel_is_flooded(const hsb__channel *ch, size_t more)
{
    size_t mark = hsb__options_limit(ch->loop->options.limits.queued_bytes);
    size_t len = hsb__buffer_len(&ch->out.bytes);
    return ch->drain_due && mark <= SIZE_MAX / 16 && (len > mark * 16 || more > mark * 16 - len);
}

static bool hsb__channel_is_drained(const hsb__channel *ch)
{
    size_t mark = hsb__options_limit(ch->loop->options.limits.queued_bytes);
    return ch->drain_due && hsb__buffer_len(&ch->out.bytes) <= mark / 2;
}

/* --- later ---------------------------------------------------------------------------- */
static hsb_ticket hsb__channel_ticket(hsb__channel *ch, void *owner, hsb__caller *call)
{
    hsb_ticket t;
    t.inbox = ch->loop->inbox;
    t.id = hsb__inbox_promise(ch->loop->inbox, owner, call, &ch->promises);
    return t;
}

/* Cancels all that could still call the owner: timers go, and tickets will find NULL.   */
static void hsb__channel_call_off(hsb__channel *ch)
{
    hsb__after_cancel_all(&ch->afters);
    if (ch->promises)
        hsb__inbox_orphan(ch->loop->inbox, &ch->promises);
}

/* ===== >>request =================================================================
   Purpose  the request object: its states, the head's storage, what fields say
   Uses     >>memory >>arena >>text >>buffer >>inbox >>loop >>head >>body >>channel
   Names    hsb__request_*
   Tests    tests/wire, tests/live/getters.c, tests/live/first_field.c, tests/live/responses.c */

/* Two of the three state machines of a connection (the third, phase, is in >>conn), each
   transition with the only function that makes it.

   receiving   WAIT -> HEAD         [hsb__http1_start]          the first byte came
               HEAD -> BODY         [hsb__http1_start_body]     on_head has returned
               BODY -> END          [hsb__http1_end_body]       all of it is here: on_request
               HEAD, BODY -> END    [hsb__http1_refuse, hsb__http1_skip_part,
                                     hsb__conn_peer_left]       no more of it will be read
               END  -> WAIT         [hsb__request_reset]        the answer is out
   sending     NONE -> OPEN         [hsb__response_open]        more may be written
               OPEN -> LAST         [hsb__response_last]        only the queue is left
               any  -> ABORTED      [hsb__response_fail, hsb__http1_refuse]
                                                the answer cannot be completed: the next turn
                                                cuts the connection
               any  -> NONE         [hsb__request_reset]

   In WAIT there is no request; text, fields and kept hold no memory.  From HEAD on text
   holds the head's bytes and head's spans point into it.  opened is true from on_head to
   on_finish, and only then does a user hold this object.  A request without a body passes
   through BODY as well.                                                                */
typedef enum hsb__receiving { HSB__WAIT, HSB__HEAD, HSB__BODY, HSB__END } hsb__receiving;
typedef enum hsb__sending { HSB__NONE, HSB__OPEN, HSB__LAST, HSB__ABORTED } hsb__sending;

/* Framings of a response's body, where a length of 0 or more is a Content-Length.       */
enum {
    HSB__LENGTH_CHUNKED = -1,
    HSB__LENGTH_CLOSE = -2,     /* it ends with the connection: HTTP/1.0               */
    HSB__LENGTH_NONE = -3       /* no HTTP follows: detached                           */
};

struct hsb_request {
    hsb__channel   channel;
    int            earlier;     /* requests of this connection that have finished      */

    hsb__receiving receiving;   /* writer: >>http1                                     */
    hsb__sending   sending;     /* writer: >>response                                  */
    hsb__head      head;
    hsb__buffer    text;        /* the head's bytes; they do not move after on_head    */
    hsb__buffer    trailer_text;        /* the trailers' bytes                         */
    size_t         fields_size; /* bytes of head.fields' block                         */
    hsb__body      body;
    hsb__buffer    kept;        /* the body, unless streamed                           */
    int64_t        received;    /* bytes of the body                                    */
    int64_t        skipped;     /* of these, came when nobody wanted them any more      */
    hsb__pace      pace;        /* of the body                                         */
    uint64_t       began_us;
    bool opened, streamed;
    bool continue_due;          /* RFC 9110 10.1.1: a 100 is owed before the body       */
    size_t       (*reader)(hsb_request *, hsb_str part);    /* of a streamed body, in place of
                                   on_body; it returns how many bytes it used, fewer only if
                                   no more are wanted now.  Absent part: the body has ended  */
    void          *reading;     /* the reader's own                                     */

    hsb__buffer    fields_out;  /* lines of fields that the user set                    */
    hsb__buffer    trailers_out;
    int            status;      /* 0: none yet                                         */
    int64_t        promised;    /* the body's length in the head, or HSB__LENGTH_*      */
    int64_t        written;     /* bytes of body queued                                */
    bool bodiless;              /* HEAD, 204, 304: what is written goes nowhere          */
    bool refused;               /* answered for the application: its answer is too late  */

    const char    *pattern;     /* of the route that matched; borrowed                 */
    hsb_stream    *detached;    /* the connection leaves HTTP when the hook returns     */
    hsb__arena    *arena;       /* the application's memory; gone after on_finish       */
    void          *user;
};

static void hsb__request_set_pools(hsb_request *req)
{
    hsb__pool *pool = &req->channel.loop->pool;
    req->text.pool = req->trailer_text.pool = req->kept.pool = pool;
    req->fields_out.pool = req->trailers_out.pool = pool;
}

static void hsb__request_init(hsb_request *req, hsb__loop *loop, hsb_conn *conn, hsb_error *why,
                              void (*schedule)(hsb_conn *))
{
    memset(req, 0, sizeof *req);
    hsb__channel_init(&req->channel, loop, conn, why, schedule);
    hsb__request_set_pools(req);
}

/* Everything of this request is released; the object waits for the next one.  The queue
   and the end that was asked for are the connection's, and stay.                       */
static void hsb__request_reset(hsb_request *req)
{
    int earlier = req->earlier + 1;
    hsb__channel_call_off(&req->channel);
    hsb__pool_put(&req->channel.loop->pool, req->head.fields, req->fields_size);
    hsb__buffer_release(&req->text);
    hsb__buffer_release(&req->trailer_text);
    hsb__buffer_release(&req->kept);
    hsb__buffer_release(&req->fields_out);
    hsb__buffer_release(&req->trailers_out);
    hsb__arena_release(&req->arena, &req->channel.loop->pool);
    hsb__channel channel = req->channel;
    memset(req, 0, sizeof *req);
    channel.paused = channel.drain_due = false;
    req->channel = channel;
    req->earlier = earlier;
    hsb__request_set_pools(req);
}

/* Nothing can be added to its answer, or the request is over.                          */
static bool hsb__request_has_answer(const hsb_request *req)
{
    return !req->opened || req->sending == HSB__LAST;
}

/* on_head is being called.                                                             */
static bool hsb__request_in_head_hook(const hsb_request *req)
{
    return req->opened && req->receiving == HSB__HEAD;
}

static bool hsb__request_has_no_body(const hsb_request *req)
{
    return !req->head.chunked && req->head.content_length == 0;
}

/* Doubles the array of fields, or makes the first one.                                 */
static bool hsb__request_more_fields(hsb_request *req)
{
    size_t size = req->fields_size ? req->fields_size * 2 : 32 * sizeof(hsb__field);
    hsb__field *more = hsb__pool_get(&req->channel.loop->pool, &size);
    if (!more)
        return false;
    if (req->head.field_count)
        memcpy(more, req->head.fields, (size_t)req->head.field_count * sizeof *more);
    hsb__pool_put(&req->channel.loop->pool, req->head.fields, req->fields_size);
    req->head.fields = more;
    req->head.field_space = (int)(size / sizeof *more);
    req->fields_size = size;
    return true;
}

static hsb_str hsb__request_text(const hsb_request *req, hsb__span span)
{
    return hsb__text_make(hsb__buffer_data(&req->text) + span.at, span.len);
}

/* Of the head's fields from the given one on, the first of that name; -1: none.        */
static int hsb__request_find(const hsb_request *req, hsb_str name, int from)
{
    return hsb__head_field(&req->head, hsb__buffer_data(&req->text), name, from,
                           req->head.trailer_from);
}

static hsb_str hsb__request_value(const hsb_request *req, int i)
{
    return hsb__request_text(req, req->head.fields[i].value);
}

static hsb_str hsb__request_header_text(const hsb_request *req, hsb_str name)
{
    int i = hsb__request_find(req, name, 0);
    return i < 0 ? hsb__text_absent() : hsb__request_value(req, i);
}

static hsb_str hsb__request_header(const hsb_request *req, const char *name)
{
    return hsb__request_header_text(req, hsb__text_of(name));
}

/* RFC 9110 5.3: a list may be spread over several fields of its name.                  */
typedef struct hsb__list {
    hsb_str name;
    int     next;               /* where to look for another field                      */
    hsb_str rest;               /* of the field at hand                                 */
} hsb__list;

static hsb__list hsb__request_list(const char *name)
{
    hsb__list list = { hsb__text_of(name), 0, hsb__text_absent() };
    return list;
}

static bool hsb__request_next_element(const hsb_request *req, hsb__list *list, hsb_str *element)
{
    while (!hsb__text_next_element(&list->rest, element)) {
        int i = hsb__request_find(req, list->name, list->next);
        if (i < 0)
            return false;
        list->rest = hsb__request_value(req, i);
        list->next = i + 1;
    }
    return true;
}

/* Is the token in the list that the fields of that name are?                           */
static bool hsb__request_lists(const hsb_request *req, const char *field, const char *token,
                               bool nocase)
{
    hsb__list list = hsb__request_list(field);
    hsb_str element;
    while (hsb__request_next_element(req, &list, &element))
        if (nocase ? hsb__text_is_nocase(element, token) : hsb__text_is(element, token))
            return true;
    return false;
}

/* The i-th field of the head, or of the trailers.                                      */
static bool hsb__request_field_at(const hsb_request *req, bool trailers, int i, hsb_str *name,
                                  hsb_str *value)
{
    const hsb__head *h = &req->head;
    int from = trailers ? h->trailer_from : 0, to = trailers ? h->field_count : h->trailer_from;
    const char *bytes = hsb__buffer_data(trailers ? &req->trailer_text : &req->text);
    if (i < 0 || i >= to - from || (trailers && req->receiving != HSB__END))
        return false;
    *name = hsb__head_text(bytes, h->fields[from + i].name);
    *value = hsb__head_text(bytes, h->fields[from + i].value);
    return true;
}

static bool hsb__request_method_is(const hsb_request *req, const char *method)
{
    return hsb__text_is(hsb__request_text(req, req->head.method), method);
}

/* GET or HEAD: the methods that files and redirects are for.                           */
static bool hsb__request_reads(const hsb_request *req)
{
    return hsb__request_method_is(req, "GET") || hsb__request_method_is(req, "HEAD");
}

static hsb_str hsb__request_body(const hsb_request *req)
{
    if (req->streamed)
        return hsb__text_absent();
    size_t len = hsb__buffer_len(&req->kept);
    return hsb__text_make(len ? hsb__buffer_data(&req->kept) : "", len);
}

static hsb__memory *hsb__request_memory(hsb_request *req)
{
    return &req->channel.loop->memory;
}

/* A piece of the request's memory, not zeroed; NULL: out of memory, or over the limit.  */
static void *hsb__request_alloc(hsb_request *req, size_t size)
{
    hsb__loop *loop = req->channel.loop;
    const int limit = loop->options.limits.request_bytes;
    return hsb__arena_alloc(&req->arena, &loop->pool, size, hsb__options_limit(limit));
}

/* --- later ------------------------------------------------------------------------------- */
static void hsb__request_call(void *owner, hsb__resume fn, void *arg)
{
    hsb_request *req = owner;
    if (fn.request)
        fn.request(req, arg);
    if (req)
        hsb__channel_schedule(&req->channel);
}

static bool hsb__request_after(hsb_request *req, int delay_ms, void (*fn)(hsb_request *, void *),
                               void *arg)
{
    hsb__channel *ch = &req->channel;
    hsb__resume resume;
    if (hsb__request_has_answer(req))
        return false;
    resume.request = fn;
    return hsb__after_add(&ch->afters, ch->loop, delay_ms, hsb__request_call, req, resume, arg);
}

/* A ticket that is made after the answer finds NULL, like those that were open then.     */
static hsb_ticket hsb__request_defer(hsb_request *req)
{
    hsb_ticket t = hsb__channel_ticket(&req->channel, req, hsb__request_call);
    if (hsb__request_has_answer(req))
        hsb__channel_call_off(&req->channel);
    return t;
}

static void hsb__request_resume(hsb_request *req)
{
    req->channel.paused = false;
    hsb__channel_schedule(&req->channel);
}

/* ===== >>response ================================================================
   Purpose  the answer: what is allowed when, which framing, what is written
   Uses     >>text >>buffer >>error >>loop >>outgoing >>frame >>channel >>request
   Names    hsb__response_*
   Tests    tests/live/responses.c, tests/live/first_field.c, tests/wire               */

/* Of a body that nobody wants, at most so many bytes are read and dropped; if there
   are more, the connection ends after the answer.                                      */
enum { HSB__SKIP = 65536 };

/* The connection will be cut, so that the peer cannot mistake what it has for all of it. */
__attribute__((format(printf, 3, 4)))
static void hsb__response_fail(hsb_request *req, hsb_status status, const char *format, ...)
{
    char text[sizeof req->channel.why->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    req->sending = HSB__ABORTED;
    hsb__channel_record(&req->channel, status, "%s", text);
    hsb__channel_schedule(&req->channel);
}

static void hsb__response_no_memory(hsb_request *req)
{
    hsb__response_fail(req, HSB_ERR_MEMORY, "out of memory for a response");
}

static bool hsb__response_may_begin(const hsb_request *req)
{
    return req->opened && req->sending == HSB__NONE;
}

/* The peer or the network ended this answer, or we gave one: what the application does
   about it now comes too late, and is no mistake of its own.                            */
static bool hsb__response_is_too_late(const hsb_request *req)
{
    return req->sending == HSB__ABORTED || req->refused;
}

/* Before the head: what the client asks for.                                            */
static bool hsb__response_keeps_alive(const hsb_request *req)
{
    if (req->sending == HSB__NONE)
        return req->head.keep_alive;
    return req->channel.ending == HSB__STAYS && req->sending != HSB__ABORTED;
}

static bool hsb__response_header(hsb_request *req, const char *name, const char *value)
{
    if (!hsb__response_may_begin(req) || !hsb__frame_field_allowed(name, value))
        return false;
    return hsb__frame_field(&req->fields_out, name, hsb__text_of(value));
}

/* --- HTTP/1's framing ------------------------------------------------------------------
   An answer is written by these: a head, data, an end.  Nothing else in this file writes
   what is between the application's bytes, so another version of HTTP is another set of
   the same functions.  False: out of memory.                                            */
static bool hsb__response_put_continue(hsb_request *req)
{
    return hsb__frame_status_line(&req->channel.out.bytes, 100) &&
           hsb__buffer_append(&req->channel.out.bytes, "\r\n", 2);
}

/* Content-Length or Transfer-Encoding, and Connection where it matters.                 */
static bool hsb__response_put_framing(hsb_request *req)
{
    hsb__buffer *out = &req->channel.out.bytes;
    bool body = hsb__frame_has_body(req->status), stays = req->channel.ending == HSB__STAYS;
    bool ok = true;
    if (body && req->promised >= 0)
        ok = hsb__frame_number_field(out, "Content-Length", req->promised);
    else if (body && req->promised == HSB__LENGTH_CHUNKED)
        ok = hsb__buffer_append_text(out, "Transfer-Encoding: chunked\r\n");
    if (req->promised == HSB__LENGTH_NONE)
        return req->status != 101 || hsb__buffer_append_text(out, "Connection: Upgrade\r\n");
    if (req->status == 426)                     /* RFC 9110 7.8: it has an Upgrade field */
        return ok && hsb__buffer_append_text(out, "Connection: Upgrade") &&
               hsb__buffer_append_text(out, stays ? "\r\n" : ", close\r\n");
    if (!stays)
        return ok && hsb__buffer_append_text(out, "Connection: close\r\n");
    if (req->head.minor == 0)
        return ok && hsb__buffer_append_text(out, "Connection: keep-alive\r\n");
    return ok;
}

static bool hsb__response_put_head(hsb_request *req, const char *type)
{
    hsb__loop *loop = req->channel.loop;
    hsb__buffer *out = &req->channel.out.bytes, *fields = &req->fields_out;
    const char *server = loop->options.server_header;
    hsb_str date = hsb__text_make(hsb__loop_date(loop), HSB__DATE_TEXT - 1);
    bool body = hsb__frame_has_body(req->status);
    bool ok =
        hsb__frame_status_line(out, req->status) && hsb__frame_field(out, "Date", date) &&
        (!server || hsb__frame_field(out, "Server", hsb__text_of(server))) &&
        (!type || !body || hsb__frame_field(out, "Content-Type", hsb__text_of(type))) &&
        hsb__response_put_framing(req) &&
        hsb__buffer_append(out, hsb__buffer_data(fields), hsb__buffer_len(fields)) &&
        hsb__buffer_append(out, "\r\n", 2);
    hsb__buffer_release(fields);
    return ok;
}

static bool hsb__response_put_data(hsb_request *req, hsb_str part)
{
    hsb__buffer *out = &req->channel.out.bytes;
    if (req->promised == HSB__LENGTH_CHUNKED)
        return hsb__frame_chunk(out, part);
    return hsb__buffer_append(out, part.ptr, part.len);
}

/* RFC 9112 7.1: the last chunk, the trailers, an empty line.                             */
static bool hsb__response_put_end(hsb_request *req)
{
    hsb__buffer *out = &req->channel.out.bytes, *trailers = &req->trailers_out;
    if (req->bodiless || req->promised != HSB__LENGTH_CHUNKED)
        return true;
    return hsb__buffer_append(out, "0\r\n", 3) &&
           hsb__buffer_append(out, hsb__buffer_data(trailers), hsb__buffer_len(trailers)) &&
           hsb__buffer_append(out, "\r\n", 2);
}

/* --- head and end: the states ------------------------------------------------------------- */
/* What is still to come of the request's body can be skipped cheaply enough to go on with
   the connection.  An answer in parts lets on_body read it: see hsb__http1_wants_body.     */
static bool hsb__response_can_skip_body(const hsb_request *req, bool in_parts)
{
    if (req->receiving == HSB__END)
        return true;
    if (req->continue_due)          /* RFC 9110 10.1.1: it may come, or it may not       */
        return false;
    if (in_parts && req->streamed)
        return true;
    return req->head.chunked || req->head.content_length - req->received <= HSB__SKIP;
}

/* Chooses the framing (RFC 9112 6.3), and whether the connection goes on after it.      */
static void hsb__response_choose_framing(hsb_request *req, int64_t length, bool in_parts)
{
    hsb__loop *loop = req->channel.loop;
    int status = req->status;
    req->bodiless = status == 205 || !hsb__frame_has_body(status) ||
                    hsb__request_method_is(req, "HEAD");
    req->promised = status == 205 ? 0 : length;         /* RFC 9110 15.3.6: always empty */
    if (req->promised == HSB__LENGTH_CHUNKED && req->head.minor == 0)
        req->promised = HSB__LENGTH_CLOSE;
    if (!req->head.keep_alive || loop->options.no_keep_alive || loop->closing ||
        !hsb__response_can_skip_body(req, in_parts) ||
        (req->promised == HSB__LENGTH_CLOSE && !req->bodiless))
        hsb__channel_end(&req->channel, HSB__LAST_ANSWER);
}

/* NONE -> OPEN.  False: memory ran out and the connection will be cut.                  */
static bool hsb__response_open(hsb_request *req, int status, const char *type, int64_t length,
                               bool in_parts)
{
    req->status = status;
    req->sending = HSB__OPEN;
    hsb__response_choose_framing(req, length, in_parts);
    bool ok = hsb__response_put_head(req, type);
    if (!ok)
        hsb__response_no_memory(req);
    hsb__channel_schedule(&req->channel);
    return ok;
}

/* The head of an answer whose body is queued at once.                                   */
static bool hsb__response_head(hsb_request *req, int status, const char *type, int64_t length)
{
    return hsb__response_open(req, status, type, length, false);
}

/* OPEN -> LAST.  From here on timers and tickets of this request serve nothing, however
   long the peer takes to read the answer.                                               */
static void hsb__response_last(hsb_request *req)
{
    req->sending = HSB__LAST;
    hsb__channel_call_off(&req->channel);
    hsb__channel_schedule(&req->channel);
}

static bool hsb__response_type_allowed(const char *type)
{
    return !type || hsb__text_is_field_value(hsb__text_of(type));
}

/* RFC 9110 9.3.6: after a 2xx to CONNECT there is no HTTP any more.                      */
static bool hsb__response_status_allowed(const hsb_request *req, int status)
{
    if (status < 200 || status > 999)
        return false;
    return status >= 300 || !hsb__request_method_is(req, "CONNECT");
}

/* --- whole answers ---------------------------------------------------------------------- */
/* Gives an error of ours the application's body, if it has one.                          */
static void hsb__response_page(hsb_request *req, int status, const char **type, hsb_str *body)
{
    hsb__loop *loop = req->channel.loop;
    const hsb_hooks *hooks = &loop->options.hooks;
    const char *own_type = *type;
    hsb_str own_body = *body;
    if (status < 400 || !hooks->on_error_page)
        return;
    hsb__loop_enter_hook(loop);
    hooks->on_error_page(status, hsb__frame_reason(status), &own_type, &own_body, hooks->user);
    hsb__loop_leave_hook(loop);
    if (!hsb__response_type_allowed(own_type)) {
        hsb_error err;
        hsb__error_set(&err, HSB_ERR_MISUSE, 0, 0, "on_error_page: type has a control character");
        hsb__loop_error(loop, req->channel.conn, &err);
        return;
    }
    *type = own_type;
    *body = own_body;
}

/* An answer that cannot be sent as asked for becomes a 500.                              */
static void hsb__response_whole(hsb_request *req, int status, const char *type, hsb_str body)
{
    if (!hsb__response_status_allowed(req, status) || !hsb__response_type_allowed(type)) {
        status = 500;
        type = NULL;
        body = hsb__text_absent();
        hsb__response_page(req, status, &type, &body);
    }
    if (req->sending != HSB__NONE)              /* on_error_page answered, which is not its job */
        return;
    if (!hsb__response_head(req, status, type, (int64_t)body.len))
        return;
    if (!req->bodiless) {
        if (!hsb__response_put_data(req, body)) {
            hsb__response_no_memory(req);
            return;
        }
        req->written = (int64_t)body.len;
    }
    hsb__response_last(req);
}

/* An answer of our own, with this text unless on_error_page has a page; NULL: no body.   */
static void hsb__response_own(hsb_request *req, int status, const char *text)
{
    const char *type = text ? "text/plain; charset=utf-8" : NULL;
    hsb_str body = hsb__text_of(text);
    hsb__response_page(req, status, &type, &body);
    hsb__response_whole(req, status, type, body);
}

static void hsb__response_text(hsb_request *req, int status, const char *text)
{
    if (hsb__response_may_begin(req))
        hsb__response_own(req, status, text);
}

static void hsb__response_plain_status(hsb_request *req, int status)
{
    char text[64];
    snprintf(text, sizeof text, "%d %s\n", status, hsb__frame_reason(status));
    hsb__response_text(req, status, text);
}

/* The source of an answer whose head was just written with this length; then LAST.  NULL:
   nothing is to be sent, or memory ran out.                                              */
static hsb__source *hsb__response_source(hsb_request *req, int64_t length)
{
    hsb__source *s = NULL;
    if (!req->bodiless && length > 0) {
        s = hsb__outgoing_add_source(&req->channel.out);
        if (!s) {
            hsb__response_no_memory(req);
            return NULL;
        }
        s->left = req->written = length;
    }
    hsb__response_last(req);
    return s;
}

static void hsb__response_owned(hsb_request *req, int status, const char *type, hsb_str body,
                                void (*release)(void *), void *arg)
{
    hsb__source *s = NULL;
    if (!hsb__response_status_allowed(req, status) || !hsb__response_type_allowed(type))
        hsb__response_own(req, 500, NULL);
    else if (hsb__response_head(req, status, type, (int64_t)body.len))
        s = hsb__response_source(req, (int64_t)body.len);
    if (s) {
        s->bytes = body.ptr;
        s->release = release;
        s->arg = arg;
    } else if (release) {
        release(arg);
    }
}

static void hsb__response_redirect(hsb_request *req, int status, const char *location)
{
    bool known = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (!known || !hsb__response_header(req, "Location", location))
        status = 500;
    hsb__response_plain_status(req, status);
}

/* --- answers in parts --------------------------------------------------------------------- */
static void hsb__response_begin(hsb_request *req, int status, int64_t length)
{
    req->refused = !hsb__response_status_allowed(req, status);  /* the client chose the method */
    if (req->refused)
        hsb__response_whole(req, status, NULL, hsb__text_absent());
    else
        hsb__response_open(req, status, NULL, length < 0 ? HSB__LENGTH_CHUNKED : length, true);
}

static hsb_flow hsb__response_write(hsb_request *req, hsb_str part)
{
    if (req->sending == HSB__ABORTED || !req->opened)
        return HSB_FLOW_GONE;
    if (part.len == 0)
        return hsb__channel_flow(&req->channel);
    if (req->promised >= 0 && (uint64_t)part.len > (uint64_t)(req->promised - req->written)) {
        hsb__response_fail(req, HSB_ERR_MISUSE, "more body bytes written than promised");
        return HSB_FLOW_GONE;
    }
    req->written += (int64_t)part.len;
    if (req->bodiless)
        return HSB_FLOW_GO;
    if (hsb__channel_is_flooded(&req->channel, part.len)) {
        hsb__response_fail(req, HSB_ERR_LIMIT, "response written on after HSB_FLOW_WAIT");
        return HSB_FLOW_GONE;
    }
    if (!hsb__response_put_data(req, part)) {
        hsb__response_no_memory(req);
        return HSB_FLOW_GONE;
    }
    hsb__channel_schedule(&req->channel);
    return hsb__channel_flow(&req->channel);
}

static hsb_flow hsb__response_flush(hsb_request *req)
{
    hsb__channel_schedule(&req->channel);
    return hsb__channel_flow(&req->channel);
}

/* RFC 9110 6.5.1: a trailer comes too late for framing and routing, for authentication, for
   what modifies a request or steers its answer, and for how the content is to be read.  Framing
   fields that are ours are refused by hsb__frame_field_allowed.                           */
static bool hsb__response_trailer_allowed(const char *name)
{
    static const char *const refused[] = {
        "te", "trailer", "upgrade", "host", "via", "proxy-connection", "forwarded",
        "authorization", "www-authenticate", "authentication-info", "proxy-authorization",
        "proxy-authenticate", "proxy-authentication-info", "set-cookie", "cookie",
        "cache-control", "expect", "max-forwards", "pragma", "range", "if-match",
        "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
        "age", "expires", "location", "retry-after", "vary", "warning",
        "content-type", "content-encoding", "content-language", "content-location",
        "content-range", "content-disposition", "content-security-policy",
        "strict-transport-security", "accept-ranges", "allow",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (hsb__text_is_nocase(hsb__text_of(name), refused[i]))
            return false;
    return true;
}

static bool hsb__response_trailer(hsb_request *req, const char *name, const char *value)
{
    if (!req->opened || req->sending == HSB__LAST || !hsb__frame_field_allowed(name, value) ||
        !hsb__response_trailer_allowed(name))
        return false;
    return hsb__frame_field(&req->trailers_out, name, hsb__text_of(value));
}

static void hsb__response_end(hsb_request *req)
{
    if (req->sending == HSB__ABORTED)
        return;
    if (!req->bodiless && req->promised >= 0 && req->written < req->promised)
        hsb__response_fail(req, HSB_ERR_MISUSE, "fewer body bytes written than promised");
    else if (!hsb__response_put_end(req))
        hsb__response_no_memory(req);
    else
        hsb__response_last(req);
}

/* Body bytes that the transport has taken.  Until the request has finished, nothing is
   queued after its body.                                                                  */
static int64_t hsb__response_bytes(const hsb_request *req)
{
    uint64_t waiting = hsb__outgoing_len(&req->channel.out);
    if (req->bodiless)
        return 0;
    return waiting < (uint64_t)req->written ? req->written - (int64_t)waiting : 0;
}

/* --- cookies (RFC 6265) --------------------------------------------------------------------- */
static bool hsb__response_cookie_value(hsb_str s)
{
    return hsb__byte_count(s, HSB__BYTE_COOKIE) == s.len;
}

/* Path and Domain: no controls and no ';' (RFC 6265 4.1.1: av-octet).                     */
static bool hsb__response_cookie_attribute(const char *value)
{
    for (; value && *value; value++)
        if ((unsigned char)*value < ' ' || *value == 127 || *value == ';')
            return false;
    return true;
}

static bool hsb__response_cookie_allowed(const hsb_cookie *c)
{
    return hsb__text_is_token(hsb__text_of(c->name)) &&
           hsb__response_cookie_value(hsb__text_of(c->value)) &&
           hsb__response_cookie_attribute(c->path) && hsb__response_cookie_attribute(c->domain) &&
           !(c->same_site == HSB_SAME_SITE_NONE && c->not_secure);
}

/* Adds name and value; nothing if value is NULL.                                           */
static bool hsb__response_cookie_add(hsb__buffer *out, const char *name, const char *value)
{
    return !value || (hsb__buffer_append_text(out, name) && hsb__buffer_append_text(out, value));
}

static bool hsb__response_cookie(hsb_request *req, const hsb_cookie *c)
{
    static const char *const same_site[] = { "Lax", "Strict", "None" };
    hsb__buffer *out = &req->fields_out;
    char age[24];
    if (!hsb__response_may_begin(req) || !hsb__response_cookie_allowed(c))
        return false;
    size_t before = out->tail;
    snprintf(age, sizeof age, "%lld", (long long)(c->max_age > 0 ? c->max_age : 0));
    bool ok = hsb__response_cookie_add(out, "Set-Cookie: ", c->name) &&
              hsb__response_cookie_add(out, "=", c->value ? c->value : "") &&
              hsb__response_cookie_add(out, "; Path=", c->path) &&
              hsb__response_cookie_add(out, "; Domain=", c->domain) &&
              hsb__response_cookie_add(out, "; Max-Age=", c->max_age ? age : NULL) &&
              hsb__response_cookie_add(out, "; SameSite=", same_site[c->same_site]) &&
              hsb__response_cookie_add(out, "; Secure", c->not_secure ? NULL : "") &&
              hsb__response_cookie_add(out, "; HttpOnly", c->for_scripts ? NULL : "") &&
              hsb__buffer_append(out, "\r\n", 2);
    if (!ok)
        out->tail = before;
    return ok;
}

/* ===== >>files ===================================================================
   Purpose  files and folders as answers: types, validators, conditions, ranges; and what
            >>answers needs of these for bytes of the program
   Uses     >>platform >>text >>buffer >>loop >>head >>outgoing >>frame >>request
            >>response
   Names    hsb__files_*
   Tests    tests/live/files*.c                                                          */

/* What programmers share is text/plain: a browser would only save a type it does not know.  */
typedef struct hsb__type { const char *endings, *type; } hsb__type;
static const hsb__type hsb__files_types[] = {
    { "html htm", "text/html; charset=utf-8" }, { "css", "text/css; charset=utf-8" },
    { "js mjs", "text/javascript; charset=utf-8" }, { "json map", "application/json" },
    { "txt log c h cpp py sh conf ini toml yml yaml diff", "text/plain; charset=utf-8" },
    { "md", "text/markdown; charset=utf-8" }, { "csv", "text/csv; charset=utf-8" },
    { "ics", "text/calendar; charset=utf-8" }, { "xml", "application/xml" },
    { "svg", "image/svg+xml" }, { "png", "image/png" }, { "jpg jpeg", "image/jpeg" },
    { "gif", "image/gif" }, { "webp", "image/webp" }, { "avif", "image/avif" },
    { "ico", "image/x-icon" }, { "bmp", "image/bmp" }, { "woff", "font/woff" },
    { "woff2", "font/woff2" }, { "ttf", "font/ttf" }, { "otf", "font/otf" },
    { "mp3", "audio/mpeg" }, { "ogg oga opus", "audio/ogg" }, { "wav", "audio/wav" },
    { "flac", "audio/flac" }, { "m4a", "audio/mp4" }, { "mp4 m4v", "video/mp4" },
    { "webm", "video/webm" }, { "ogv", "video/ogg" }, { "mov", "video/quicktime" },
    { "pdf", "application/pdf" }, { "epub", "application/epub+zip" },
    { "wasm", "application/wasm" }, { "webmanifest", "application/manifest+json" },
    { "pem", "application/x-pem-file" }, { "gz", "application/gzip" },
    { "zip", "application/zip" }, { "tar", "application/x-tar" }, { "xz", "application/x-xz" },
    { "zst", "application/zstd" }, { "7z", "application/x-7z-compressed" },
};

static bool hsb__files_has_ending(const hsb__type *t, hsb_str ending)
{
    hsb_str rest = hsb__text_of(t->endings);
    while (rest.ptr)
        if (hsb__text_equal_nocase(hsb__text_cut(&rest, ' '), ending))
            return true;
    return false;
}

/* The type for what follows the last dot of the path's last segment.                        */
static const char *hsb__files_type(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < sizeof hsb__files_types / sizeof *hsb__files_types; i++)
        if (hsb__files_has_ending(&hsb__files_types[i], hsb__text_of(dot + 1)))
            return hsb__files_types[i].type;
    return "application/octet-stream";
}

/* Up to so many bytes are read at once, before the head is sent.  What is in memory then needs
   no descriptor while it is sent, and its length is known.  Of more bytes the first are read,
   to see that the file can be read at all.                                                  */
enum { HSB__FILE_AT_ONCE = 64 << 10, HSB__FILE_FIRST = 16 << 10 };

/* An open file, or bytes of the program, and what the answer says about it.                 */
enum { HSB__FILE_ETAG = 80 };       /* with quotes and a NUL                                 */
typedef struct hsb__file {
    int         fd;                 /* -1: bytes                                             */
    const char *bytes;              /* all of them; borrowed until on_finish                 */
    int64_t     size, modified;     /* from facts; then as the file turns out to be          */
    bool        undated;            /* nobody knows when the bytes were modified             */
    hsb__facts  facts;
    const char *type;
    bool        gzip;               /* this is the .gz beside the file that was asked for    */
    bool        varies;             /* there is a .gz                                        */
    hsb__buffer data;               /* bytes from data_from on that were read at once        */
    int64_t     data_from;
    char        etag[HSB__FILE_ETAG];       /* strong                                        */
} hsb__file;

/* Another file gets another tag, also if size and time are the same: its inode and the time
   of its last change differ.  A hash of them tells strangers nothing about the disk.        */
static void hsb__files_make_etag(hsb__file *f)
{
    const uint64_t facts[] = {
        (uint64_t)f->facts.size, (uint64_t)f->facts.modified, f->facts.modified_ns,
        (uint64_t)f->facts.changed, f->facts.changed_ns, f->facts.inode, f->gzip
    };
    unsigned char hash[br_sha256_SIZE];
    char *at = f->etag;
    br_sha256_context sha256;
    br_sha256_init(&sha256);
    br_sha256_update(&sha256, facts, sizeof facts);
    br_sha256_out(&sha256, hash);
    *at++ = '"';
    for (size_t i = 0; i < 16; i++)
        at = hsb__text_print_hex(at, hash[i], 'a');
    memcpy(at, "\"", 2);
}

static bool hsb__files_look(hsb__file *f)
{
    if (!hsb__os_facts(f->fd, &f->facts) || f->facts.kind != HSB__FILE_REGULAR)
        return false;
    f->size = f->facts.size;
    f->modified = f->facts.modified;
    hsb__files_make_etag(f);
    return true;
}

/* --- conditions (RFC 9110 13) -------------------------------------------------------------- */
/* RFC 9110 8.8.3.2: in the weak comparison W/"x" equals "x".                                */
static bool hsb__files_tag_listed(const hsb_request *req, const char *field, const char *etag,
                                  bool weak)
{
    hsb__list list = hsb__request_list(field);
    hsb_str element;
    while (hsb__request_next_element(req, &list, &element)) {
        if (hsb__text_is(element, "*"))
            return true;
        if (weak && element.len > 2 && memcmp(element.ptr, "W/", 2) == 0)
            element = hsb__text_after(element, 2);
        if (hsb__text_is(element, etag))
            return true;
    }
    return false;
}

/* False: the field is missing, or is not a date.                                            */
static bool hsb__files_date(const hsb_request *req, const char *field, int64_t *at)
{
    hsb_str date = hsb__request_header(req, field);
    return date.ptr && hsb__date_parse(date, hsb__os_wall(), at);
}

/* RFC 9110 13.1.1, 13.1.4: false if the client asks only for another version than this.     */
static bool hsb__files_changed(const hsb_request *req, const hsb__file *f)
{
    int64_t at;
    if (hsb__request_header(req, "If-Match").ptr)
        return !hsb__files_tag_listed(req, "If-Match", f->etag, false);
    return !f->undated && hsb__files_date(req, "If-Unmodified-Since", &at) && f->modified > at;
}

static bool hsb__files_not_modified(const hsb_request *req, const hsb__file *f)
{
    int64_t since;
    if (hsb__request_header(req, "If-None-Match").ptr)
        return hsb__files_tag_listed(req, "If-None-Match", f->etag, true);
    return !f->undated && hsb__files_date(req, "If-Modified-Since", &since) &&
           f->modified <= since;
}

/* RFC 9110 13.1.5: false if the client has part of another version; it needs the whole file. */
static bool hsb__files_same_version(const hsb_request *req, const hsb__file *f)
{
    int64_t at;
    hsb_str condition = hsb__request_header(req, "If-Range");
    if (!condition.ptr)
        return true;
    if (condition.len && condition.ptr[0] == '"')
        return hsb__text_is(condition, f->etag);
    /* RFC 9110 8.8.2.2: within the second of Date the file may change once more.            */
    hsb__loop_date(req->channel.loop);
    return !f->undated && hsb__files_date(req, "If-Range", &at) && at == f->modified &&
           at < req->channel.loop->date_second;
}

/* --- ranges (RFC 9110 14) ------------------------------------------------------------------- */
typedef struct hsb__range { int64_t from, end; } hsb__range;    /* without the byte at end    */

/* "0-499", "500-" or "-500".  False: not a range.  It is empty if it lies beyond the file.  */
static bool hsb__files_parse_range(hsb_str s, int64_t size, hsb__range *out)
{
    int64_t from = 0, to = size - 1;
    hsb_str first = hsb__text_cut(&s, '-');
    if (!s.ptr)
        return false;
    if (first.len == 0) {
        if (!hsb__text_number(s, &from))
            return false;
        from = from < size ? size - from : 0;
    } else if (!hsb__text_number(first, &from) ||
               (s.len && (!hsb__text_number(s, &to) || to < from))) {
        return false;
    }
    out->from = from;
    out->end = to < size ? to + 1 : size;
    return true;
}

/* RFC 9110 14.2: true if a part of the file is to be sent: the range that was asked for, or,
   of several, the one that covers the others.  It is empty if no byte of it exists.  False:
   send the whole file, because there is no Range field, or it is not understood, or no range
   covers the others.                                                                        */
static bool hsb__files_range(hsb_str field, int64_t size, hsb__range *out)
{
    hsb__range asked;
    hsb_str element;
    int64_t longest = 0;
    bool any = false;
    if (!hsb__text_begins_nocase(field, "bytes="))
        return false;
    field = hsb__text_after(field, sizeof "bytes=" - 1);
    out->from = INT64_MAX;
    out->end = 0;
    while (hsb__text_next_element(&field, &element)) {
        if (!hsb__files_parse_range(element, size, &asked))
            return false;
        any = true;
        if (asked.from >= asked.end)
            continue;
        out->from = asked.from < out->from ? asked.from : out->from;
        out->end = asked.end > out->end ? asked.end : out->end;
        longest = asked.end - asked.from > longest ? asked.end - asked.from : longest;
    }
    return any && (longest == 0 || longest == out->end - out->from);
}

/* --- reading -------------------------------------------------------------------------------- */
static int hsb__files_status_of(int code)
{
    return hsb__os_is_denied(code) ? 403 : hsb__os_is_shortage(code) ? 503 : 404;
}

/* Reads n bytes from the given one on, or fewer where the file ends.  0, or the status to
   answer with.                                                                              */
static int hsb__files_read(hsb__file *f, int64_t from, size_t n)
{
    char *to = hsb__buffer_reserve(&f->data, n);
    size_t got = 0;
    ptrdiff_t more = 1;
    if (!to)
        return 503;
    while (got < n && more > 0) {
        more = hsb__os_pread(f->fd, to + got, n - got, from + (int64_t)got);
        got += more > 0 ? (size_t)more : 0;
    }
    hsb__buffer_added(&f->data, got);
    f->data_from = from;
    if (more >= 0)
        return 0;
    int status = hsb__files_status_of(hsb__os_error());
    return status == 404 ? 500 : status;
}

/* Files in /sys have fewer bytes than they say, and those in /proc say that they have none.  */
static int hsb__files_read_small(hsb__file *f)
{
    int status = hsb__files_read(f, 0, f->size ? (size_t)f->size : HSB__FILE_AT_ONCE);
    const int64_t got = (int64_t)hsb__buffer_len(&f->data);
    if (status == 0 && f->size == 0 && got == HSB__FILE_AT_ONCE)
        return 500;                     /* nobody knows how much more there is                */
    f->size = got;
    return status;
}

static int hsb__files_read_part(hsb__file *f, hsb__range *part, bool whole)
{
    const int64_t len = part->end - part->from;
    const size_t n = len > HSB__FILE_AT_ONCE ? HSB__FILE_FIRST : (size_t)len;
    int status = hsb__files_read(f, part->from, n);
    if (status == 0 && hsb__buffer_len(&f->data) < n) {
        status = whole ? 0 : 500;
        f->size = part->end = (int64_t)hsb__buffer_len(&f->data);
    }
    return status;
}

/* --- the answer --------------------------------------------------------------------------- */
/* RFC 9110 8.8.2.1: never later than Date.                                                   */
static bool hsb__files_fields(hsb_request *req, const hsb__file *f)
{
    hsb__loop *loop = req->channel.loop;
    char date[HSB__DATE_TEXT];
    hsb__loop_date(loop);
    hsb__date_print(date, f->modified < loop->date_second ? f->modified : loop->date_second);
    return (f->undated ||
            hsb__frame_field(&req->fields_out, "Last-Modified", hsb__text_of(date))) &&
           hsb__frame_field(&req->fields_out, "ETag", hsb__text_of(f->etag)) &&
           hsb__buffer_append_text(&req->fields_out, "Accept-Ranges: bytes\r\n") &&
           (!f->varies || hsb__buffer_append_text(&req->fields_out, "Vary: Accept-Encoding\r\n"));
}

/* RFC 9110 14.4; without a part: 416.                                                        */
static bool hsb__files_content_range(hsb_request *req, const hsb__range *part, int64_t size)
{
    char value[80];
    if (part)
        snprintf(value, sizeof value, "bytes %lld-%lld/%lld", (long long)part->from,
                 (long long)(part->end - 1), (long long)size);
    else
        snprintf(value, sizeof value, "bytes */%lld", (long long)size);
    return hsb__frame_field(&req->fields_out, "Content-Range", hsb__text_of(value));
}

/* When the file has been sent, or its connection has ended: a descriptor is free again.      */
static void hsb__files_sent(void *arg)
{
    hsb__loop *loop = arg;
    loop->held--;
    if (loop->on_idle)
        loop->on_idle(loop->server);
}

static void hsb__files_send_bytes(hsb_request *req, const hsb__file *f, const hsb__range *part)
{
    hsb__source *s = hsb__response_source(req, part->end - part->from);
    if (s) {
        s->bytes = f->bytes;
        s->from = part->from;
    }
}

/* The part that is in memory, then a source for the rest, which takes f->fd over.           */
static void hsb__files_send_part(hsb_request *req, hsb__file *f, const hsb__range *part)
{
    const int64_t length = part->end - part->from;
    const size_t skip = (size_t)(part->from - f->data_from);
    hsb_str first = hsb__text_make(hsb__buffer_data(&f->data), hsb__buffer_len(&f->data));
    first = first.len ? hsb__text_after(first, skip) : first;
    first.len = (uint64_t)length < first.len ? (size_t)length : first.len;
    if (!req->bodiless && !hsb__response_put_data(req, first)) {
        hsb__response_no_memory(req);
        return;
    }
    hsb__source *s = hsb__response_source(req, length - (int64_t)first.len);
    req->written = req->bodiless ? 0 : length;
    if (s) {
        s->fd = f->fd;
        s->from = part->from + (int64_t)first.len;
        s->release = hsb__files_sent;
        s->arg = req->channel.loop;
        req->channel.loop->held++;
        f->fd = -1;
    }
}

/* The status of the answer.  For 200 and 206, *part is what to send, and its beginning has been
   read.  RFC 9110 13.2.2: in this order; 14.2: Range is for GET only, and an empty file has no
   ranges.                                                                                    */
static int hsb__files_decide(hsb_request *req, hsb__file *f, hsb__range *part)
{
    const bool get = hsb__request_method_is(req, "GET"), read = !f->bytes;
    const bool small = f->size <= HSB__FILE_AT_ONCE;
    if (hsb__files_changed(req, f))
        return 412;
    if (hsb__files_not_modified(req, f))
        return 304;
    int failure = read && small ? hsb__files_read_small(f) : 0;
    if (failure)
        return failure;
    bool ranged = get && f->size > 0 && hsb__files_same_version(req, f) &&
                  hsb__files_range(hsb__request_header(req, "Range"), f->size, part);
    if (ranged && part->from >= part->end)
        return 416;
    if (!ranged) {
        part->from = 0;
        part->end = f->size;
    }
    if (read && get && !small)
        failure = hsb__files_read_part(f, part, !ranged);
    return failure ? failure : ranged ? 206 : 200;
}

static void hsb__files_answer(hsb_request *req, hsb__file *f)
{
    hsb__range part = { 0, 0 };
    int status = hsb__files_decide(req, f, &part);
    if (status == 403 || status >= 500) {
        hsb__response_plain_status(req, status);
        return;
    }
    const bool sent = status == 200 || status == 206;
    bool ok = hsb__files_fields(req, f);
    if (sent && f->gzip)
        ok = ok && hsb__buffer_append_text(&req->fields_out, "Content-Encoding: gzip\r\n");
    if (status == 206 || status == 416)
        ok = ok && hsb__files_content_range(req, status == 206 ? &part : NULL, f->size);
    if (!ok)
        hsb__response_no_memory(req);
    else if (!sent)
        hsb__response_own(req, status, NULL);
    else if (!hsb__response_head(req, status, f->type, part.end - part.from))
        return;
    else if (f->bytes)
        hsb__files_send_bytes(req, f, &part);
    else
        hsb__files_send_part(req, f, &part);
}

/* RFC 9110 12.4.2: "q=0" and "q=0.000" mean: not at all.                                     */
static bool hsb__files_is_wanted(hsb_str weight)
{
    for (size_t i = 0; i < weight.len; i++)
        if (weight.ptr[i] >= '1' && weight.ptr[i] <= '9')
            return true;
    return false;
}

/* RFC 9110 12.5.3: true if Accept-Encoding lists gzip, with another weight than 0.           */
static bool hsb__files_takes_gzip(const hsb_request *req)
{
    hsb__list list = hsb__request_list("Accept-Encoding");
    hsb_str element;
    while (hsb__request_next_element(req, &list, &element)) {
        hsb_str coding = hsb__text_trim(hsb__text_cut(&element, ';'));
        if (!hsb__text_is_nocase(coding, "gzip"))
            continue;
        bool wanted = true;
        while (element.ptr) {
            hsb_str value = hsb__text_cut(&element, ';');
            hsb_str name = hsb__text_trim(hsb__text_cut(&value, '='));
            wanted = hsb__text_is_nocase(name, "q") ? hsb__files_is_wanted(value) : wanted;
        }
        return wanted;
    }
    return false;
}

/* Without a root the path is the application's own and may lead anywhere.                   */
static int hsb__files_open(const char *root, const char *path)
{
    return root ? hsb__os_open_below(root, path) : hsb__os_open_file(path);
}

static bool hsb__files_is_older(const hsb__facts *a, const hsb__facts *b)
{
    return a->modified < b->modified ||
           (a->modified == b->modified && a->modified_ns < b->modified_ns);
}

/* Looks for a .gz beside the file that is not older, and replaces *f by it if the client
   accepts gzip.                                                                             */
static void hsb__files_try_gzip(const hsb_request *req, const char *root, const char *path,
                                hsb__file *f)
{
    char name[HSB__PATH_MAX];
    hsb__file gz = *f;
    int n = snprintf(name, sizeof name, "%s.gz", path);
    if (n < 0 || (size_t)n >= sizeof name)
        return;
    gz.gzip = gz.varies = true;
    gz.fd = hsb__files_open(root, name);
    if (gz.fd < 0)
        return;
    if (hsb__files_look(&gz) && !hsb__files_is_older(&gz.facts, &f->facts)) {
        f->varies = true;
        if (hsb__files_takes_gzip(req)) {
            hsb__os_close_file(f->fd);
            *f = gz;
            return;
        }
    }
    hsb__os_close_file(gz.fd);
}

static void hsb__files_method_not_allowed(hsb_request *req)
{
    hsb__response_header(req, "Allow", "GET, HEAD");
    hsb__response_plain_status(req, 405);
}

/* fd is open on path, and is closed here.                                                   */
static void hsb__files_respond_fd(hsb_request *req, const char *root, const char *path, int fd,
                                  const char *type)
{
    hsb__file f;
    memset(&f, 0, sizeof f);
    f.fd = fd;
    f.type = type && hsb__response_type_allowed(type) ? type : hsb__files_type(path);
    f.data.pool = &req->channel.loop->pool;
    if (!hsb__files_look(&f)) {
        hsb__response_plain_status(req, 404);
    } else {
        hsb__files_try_gzip(req, root, path, &f);
        hsb__files_answer(req, &f);
    }
    hsb__buffer_release(&f.data);
    if (f.fd >= 0)
        hsb__os_close_file(f.fd);
}

static void hsb__files_respond(hsb_request *req, const char *path, const char *type)
{
    if (!hsb__request_reads(req)) {
        hsb__files_method_not_allowed(req);
        return;
    }
    int fd = hsb__files_open(NULL, path);
    if (fd < 0)
        hsb__response_plain_status(req, hsb__files_status_of(hsb__os_error()));
    else
        hsb__files_respond_fd(req, NULL, path, fd, type);
}

/* --- folders ------------------------------------------------------------------------------ */
/* Decodes a request's path to a relative name, without leading slashes.  False: it contains a
   NUL, or a segment "." or "..", encoded or not.  In POSIX a backslash is a character like
   any other.                                                                                */
static bool hsb__files_relative(hsb_str path, char *out, size_t size)
{
    size_t len;
    if (!hsb__percent_decode(path, false, out, size - 1, &len))
        return false;
    out[len] = '\0';
    for (const char *at = out; at < out + len;) {
        size_t n = strcspn(at, "/");
        if ((n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        at += n + (at[n] == '/');
    }
    size_t slashes = strspn(out, "/");
    memmove(out, out + slashes, len - slashes + 1);
    return true;
}

/* RFC 3986 4.2: "//name" would lead to another host, so only one leading slash is kept.     */
static void hsb__files_redirect_to_slash(hsb_request *req)
{
    char location[HSB__PATH_MAX];
    hsb_str path = hsb__request_text(req, req->head.path), query = hsb__text_absent();
    if (req->head.has_query)
        query = hsb__request_text(req, req->head.query);
    while (path.len > 1 && path.ptr[0] == '/' && path.ptr[1] == '/')
        path = hsb__text_after(path, 1);
    int n = snprintf(location, sizeof location, "%.*s/%s%.*s", (int)path.len, path.ptr,
                     req->head.has_query ? "?" : "", (int)query.len, query.ptr ? query.ptr : "");
    if (n < 0 || (size_t)n >= sizeof location)
        hsb__response_plain_status(req, 414);
    else
        hsb__response_redirect(req, 308, location);
}

static bool hsb__files_is_folder(int fd)
{
    hsb__facts facts;
    return hsb__os_facts(fd, &facts) && facts.kind == HSB__FILE_FOLDER;
}

static void hsb__files_respond_dir(hsb_request *req, const char *root, hsb_str path)
{
    char name[HSB__PATH_MAX];
    if (!hsb__request_reads(req)) {
        hsb__files_method_not_allowed(req);
        return;
    }
    if (!hsb__files_relative(path, name, sizeof name - sizeof "index.html")) {
        hsb__response_plain_status(req, 404);
        return;
    }
    size_t len = strlen(name);
    bool slash = len == 0 || name[len - 1] == '/';
    int fd = hsb__os_open_below(root, name);
    if (fd >= 0 && hsb__files_is_folder(fd)) {
        hsb__os_close_file(fd);
        if (!slash) {
            hsb__files_redirect_to_slash(req);
            return;
        }
        memcpy(name + len, "index.html", sizeof "index.html");
        fd = hsb__os_open_below(root, name);
    } else if (fd >= 0 && slash) {              /* "file.txt/" names nothing                    */
        hsb__os_close_file(fd);
        fd = -1;
        hsb__os_set_error(HSB__OS_NO_FILE);
    }
    if (fd < 0)
        hsb__response_plain_status(req, hsb__files_status_of(hsb__os_error()));
    else
        hsb__files_respond_fd(req, root, name, fd, NULL);
}

/* ===== >>stream ==================================================================
   Purpose  after hsb_request_detach: bytes only
   Uses     >>memory >>text >>buffer >>inbox >>loop >>outgoing >>channel >>request
            >>response
   Names    hsb__stream_*, hsb__request_detach
   Tests    tests/live/streams.c, tests/live/closing.c, tests/live/timeouts.c          */

struct hsb_stream {
    hsb__channel     channel;
    hsb_stream_hooks hooks;
    bool             ended;         /* on_end has reported the peer's end                */
    hsb__pace        pace;          /* of bytes in both directions                       */
    void           (*probe)(hsb_stream *);  /* asks a silent peer for a sign; NULL: none */
    bool             probed;        /* since the last byte                               */
};

static bool hsb__stream_may_detach(const hsb_request *req, int status)
{
    bool upgrade = status == 101 && req->head.minor == 1 &&             /* RFC 9110 7.8   */
                   hsb__request_lists(req, "Connection", "upgrade", true) &&
                   hsb__request_header(req, "Upgrade").ptr;
    bool tunnel = status >= 200 && status < 300 && hsb__request_method_is(req, "CONNECT");
    bool whole = req->receiving == HSB__END ||
                 (hsb__request_in_head_hook(req) && hsb__request_has_no_body(req));
    return hsb__response_may_begin(req) && whole && (upgrade || tunnel);
}

/* Writes the head, whose bytes become the first in the stream's queue.  The connection's own
   step makes the change, after the hook has returned.                                    */
static hsb_stream *hsb__request_detach(hsb_request *req, int status, const hsb_stream_hooks *hooks)
{
    hsb__channel *from = &req->channel;
    if (!hsb__stream_may_detach(req, status))
        return NULL;
    hsb_stream *s = hsb__memory_zeroed(&from->loop->memory, sizeof *s);
    if (!s)
        return NULL;
    if (!hsb__response_head(req, status, NULL, HSB__LENGTH_NONE)) {
        hsb__memory_free(&from->loop->memory, s, sizeof *s);
        return NULL;
    }
    hsb__channel_init(&s->channel, from->loop, from->conn, from->why, from->schedule);
    hsb__outgoing_move(&s->channel.out, &from->out);
    s->hooks = *hooks;
    req->detached = s;
    return s;
}

/* A byte went to the peer, or came.                                                      */
static void hsb__stream_moved(hsb_stream *s)
{
    hsb__pace_count(&s->pace, hsb__loop_now_ms(s->channel.loop), 1);
    s->probed = false;
}

/* What the probe itself sends is no sign of life.                                        */
static void hsb__stream_probe(hsb_stream *s)
{
    hsb__pace before = s->pace;
    s->probe(s);
    s->pace = before;
    s->probed = true;
}

static uint64_t hsb__stream_deadline(const hsb_stream *s)
{
    int period = s->channel.loop->options.timeouts.stream;
    if (s->probe && !s->probed && period > 0)
        period /= 3;
    return hsb__pace_deadline(&s->pace, period, 0);
}

/* The stream ends, or its end was asked for: the application gets and sends no more.     */
static bool hsb__stream_gone(const hsb_stream *s)
{
    return s->channel.ending != HSB__STAYS;
}

static void hsb__stream_close(hsb_stream *s, bool force)
{
    hsb__channel_end(&s->channel, force ? HSB__ENDS_NOW : HSB__ENDS);
}

static hsb_flow hsb__stream_fail(hsb_stream *s, hsb_status status, const char *text)
{
    hsb__channel_record(&s->channel, status, "%s", text);
    hsb__stream_close(s, true);
    return HSB_FLOW_GONE;
}

/* Two parts as one write: a frame's head and its payload.                                */
static hsb_flow hsb__stream_write_both(hsb_stream *s, hsb_str head, hsb_str body)
{
    hsb__buffer *out = &s->channel.out.bytes;
    if (hsb__stream_gone(s))
        return HSB_FLOW_GONE;
    if (hsb__channel_is_flooded(&s->channel, body.len))
        return hsb__stream_fail(s, HSB_ERR_LIMIT, "stream written on after HSB_FLOW_WAIT");
    if (!hsb__buffer_append(out, head.ptr, head.len) ||
        !hsb__buffer_append(out, body.ptr, body.len))
        return hsb__stream_fail(s, HSB_ERR_MEMORY, "out of memory for a stream");
    hsb__stream_moved(s);
    hsb__channel_schedule(&s->channel);
    return hsb__channel_flow(&s->channel);
}

static hsb_flow hsb__stream_write(hsb_stream *s, hsb_str part)
{
    return hsb__stream_write_both(s, hsb__text_absent(), part);
}

static hsb_flow hsb__stream_flush(hsb_stream *s)
{
    if (hsb__stream_gone(s))
        return HSB_FLOW_GONE;
    hsb__channel_schedule(&s->channel);
    return hsb__channel_flow(&s->channel);
}

static void hsb__stream_pause(hsb_stream *s)
{
    s->channel.paused = true;
}

static void hsb__stream_resume(hsb_stream *s)
{
    s->channel.paused = false;
    hsb__channel_schedule(&s->channel);
}

static void hsb__stream_call(void *owner, hsb__resume fn, void *arg)
{
    hsb_stream *s = owner;
    if (fn.stream)
        fn.stream(s, arg);
    if (s)
        hsb__channel_schedule(&s->channel);
}

static bool hsb__stream_after(hsb_stream *s, int delay_ms, void (*fn)(hsb_stream *, void *),
                              void *arg)
{
    hsb__channel *ch = &s->channel;
    hsb__resume resume;
    resume.stream = fn;
    return hsb__after_add(&ch->afters, ch->loop, delay_ms, hsb__stream_call, s, resume, arg);
}

static hsb_ticket hsb__stream_ticket(hsb_stream *s)
{
    return hsb__channel_ticket(&s->channel, s, hsb__stream_call);
}

/* The connection has ended: the last call of its hooks, then the stream is released.     */
static void hsb__stream_end(hsb_stream *s, const hsb_error *why)
{
    hsb__loop *loop = s->channel.loop;
    hsb__channel_call_off(&s->channel);
    s->channel.ending = HSB__ENDS_NOW;
    if (s->hooks.on_close) {
        hsb__loop_enter_hook(loop);
        s->hooks.on_close(s, why, s->hooks.user);
        hsb__loop_leave_hook(loop);
    }
    hsb__channel_call_off(&s->channel);         /* what on_close still asked for            */
    hsb__outgoing_clear(&s->channel.out);
    hsb__memory_free(&loop->memory, s, sizeof *s);
}

/* ===== >>websocket ===============================================================
   Purpose  RFC 6455 over a stream: frames, messages, pings, the close handshake
   Uses     >>memory >>text >>request >>response >>stream
   Names    hsb__websocket_*
   Tests    tests/unit/websocket*.c, tests/live/websocket.c, tests/fuzz/websocket.c

   Bottom-up: the frame reader, the frame writer, Close frames, the buffer for one message
   and the handshake's arithmetic are pure functions that know no connection.  The part from
   "over a stream" on connects them to one.

     received bytes -> reader -> DATA  -> unmasked, checked -> on_message, on_fragment
                              -> PING  -> a pong
                              -> CLOSE -> our Close, end of the stream
                              -> BAD   -> Close 1002, 1007 or 1009, end of the stream

   There are no extensions and no compression.  The application decides, before it opens
   the WebSocket, whether a page of that Origin may talk to this server.                 */

enum {                                  /* RFC 6455 7.4.1                              */
    HSB__WEBSOCKET_PROTOCOL = 1002,     /* the peer broke the protocol                 */
    HSB__WEBSOCKET_NO_CODE  = 1005,     /* its Close had no code; never sent           */
    HSB__WEBSOCKET_CUT_OFF  = 1006,     /* there was no Close; never sent              */
    HSB__WEBSOCKET_NOT_UTF8 = 1007,     /* a text or a reason that is not UTF-8        */
    HSB__WEBSOCKET_TOO_BIG  = 1009,     /* a message above the limit                   */
    HSB__WEBSOCKET_INTERNAL = 1011      /* we ran out of memory                        */
};

enum {                                  /* RFC 6455 5.2: opcodes                       */
    HSB__WEBSOCKET_OP_MORE   = 0x0,
    HSB__WEBSOCKET_OP_TEXT   = 0x1,
    HSB__WEBSOCKET_OP_BINARY = 0x2,
    HSB__WEBSOCKET_OP_CLOSE  = 0x8,     /* bit 3 is set in control frames              */
    HSB__WEBSOCKET_OP_PING   = 0x9,
    HSB__WEBSOCKET_OP_PONG   = 0xA
};

enum {
    HSB__WEBSOCKET_CONTROL = 125,       /* RFC 6455 5.5: payload of a control frame    */
    HSB__WEBSOCKET_REASON  = 123,       /*   and the reason in a Close                 */
    HSB__WEBSOCKET_HEAD    = 14,        /* 2, a length of 0, 2 or 8, a mask of 4       */
    HSB__WEBSOCKET_ACCEPT  = 29,        /* base64 of a SHA-1, and a NUL                */
    HSB__WEBSOCKET_PART    = 4096       /* the most that on_fragment gets at once      */
};

/* --- frames in ------------------------------------------------------------------------- */

typedef enum hsb__websocket_event {
    HSB__WEBSOCKET_MORE,        /* all input is used; more is needed                    */
    HSB__WEBSOCKET_DATA,        /* a masked piece of a message                          */
    HSB__WEBSOCKET_PING,        /* a whole control frame: in control[]                  */
    HSB__WEBSOCKET_PONG,
    HSB__WEBSOCKET_CLOSE,
    HSB__WEBSOCKET_BAD          /* final: the code to close with is in `bad`            */
} hsb__websocket_event;

/* While head_len < head_need, bytes of a frame's head are missing; then `left` bytes of its
   payload are.  hsb__websocket_reader_start makes a reader that awaits the first frame. */
typedef struct hsb__websocket_reader {
    unsigned char head[HSB__WEBSOCKET_HEAD];
    unsigned      head_len, head_need;
    unsigned      mask_at;              /* which byte of the mask comes next            */
    uint64_t      left;
    uint64_t      limit;                /* the longest message that is permitted        */
    uint64_t      length;               /* of the message so far, with the whole of this frame */
    bool          within;               /* a message has begun and not ended            */
    bool          text;                 /* the message is text                          */
    bool          last;                 /* the piece reported as DATA ends the message  */
    hsb__utf8     utf8;                 /* between two characters when a text ends      */
    unsigned      control_len;
    char          control[HSB__WEBSOCKET_CONTROL];
    int           bad;
    const char   *why;                  /* the text for `bad`                           */
} hsb__websocket_reader;

static void hsb__websocket_reader_start(hsb__websocket_reader *r, uint64_t limit)
{
    memset(r, 0, sizeof *r);
    r->limit = limit;
    r->head_need = 2 + 4;
}

/* Records a failure; the first one counts.  Returns false so that callers can return it. */
static bool hsb__websocket_bad(hsb__websocket_reader *r, int code, const char *why)
{
    if (!r->bad) {
        r->bad = code;
        r->why = why;
    }
    return false;
}

static unsigned hsb__websocket_opcode(const hsb__websocket_reader *r)
{
    return r->head[0] & 0x0Fu;
}

static bool hsb__websocket_is_control(const hsb__websocket_reader *r)
{
    return (hsb__websocket_opcode(r) & 0x8u) != 0;
}

static bool hsb__websocket_is_final(const hsb__websocket_reader *r)
{
    return (r->head[0] & 0x80u) != 0;
}

/* FIN, three reserved bits, the opcode.                                                */
static bool hsb__websocket_check_first(hsb__websocket_reader *r)
{
    unsigned opcode = hsb__websocket_opcode(r);
    if (r->head[0] & 0x70u)                         /* RFC 6455 5.2: no extension       */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "reserved bit set");
    if ((opcode & 0x7u) > 2)                        /* RFC 6455 5.2: 3..7 and 11..15    */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "reserved opcode");
    if (opcode & 0x8u)                              /* RFC 6455 5.5                     */
        return hsb__websocket_is_final(r) ||
               hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "fragmented control frame");
    if (opcode == HSB__WEBSOCKET_OP_MORE)           /* RFC 6455 5.4                     */
        return r->within ||
               hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "nothing to continue");
    return !r->within ||                            /* RFC 6455 5.4                     */
           hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "message within a message");
}

/* MASK, and a length of up to 125, or 126 or 127 for one of two or eight bytes.        */
static bool hsb__websocket_check_second(hsb__websocket_reader *r)
{
    unsigned length = r->head[1] & 0x7Fu;
    if (!(r->head[1] & 0x80u))                      /* RFC 6455 5.1                     */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "frame without a mask");
    if (hsb__websocket_is_control(r) && length > HSB__WEBSOCKET_CONTROL)
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "control frame too long");
    r->head_need = 2 + (length < 126 ? 0 : length == 126 ? 2 : 8) + 4;
    return true;
}

/* Called when everything before the mask has been received.                            */
static bool hsb__websocket_check_length(hsb__websocket_reader *r)
{
    uint64_t length = r->head_len == 2 ? r->head[1] & 0x7Fu : 0;
    for (unsigned i = 2; i < r->head_len; i++)
        length = length << 8 | r->head[i];
    if (length >> 63)                               /* RFC 6455 5.2                     */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "length above 63 bits");
    uint64_t least = r->head_len == 2 ? 0 : r->head_len == 4 ? 126 : 65536;
    if (length < least)                             /* RFC 6455 5.2: minimal encoding   */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "length in too many bytes");
    r->left = length;
    if (hsb__websocket_is_control(r))
        return true;
    uint64_t before = r->within ? r->length : 0;
    if (length > r->limit - before)                 /* RFC 6455 7.4.1                   */
        return hsb__websocket_bad(r, HSB__WEBSOCKET_TOO_BIG, "message too big");
    r->length = before + length;
    return true;
}

/* Called when the head is complete.                                                    */
static void hsb__websocket_frame_begins(hsb__websocket_reader *r)
{
    unsigned opcode = hsb__websocket_opcode(r);
    r->mask_at = 0;
    if (opcode & 0x8u) {
        r->control_len = 0;
    } else if (opcode != HSB__WEBSOCKET_OP_MORE) {
        r->within = true;
        r->text = opcode == HSB__WEBSOCKET_OP_TEXT;
    }
}

/* Judges each byte as it arrives, so that an invalid frame is refused at once.          */
static bool hsb__websocket_head_byte(hsb__websocket_reader *r, char c)
{
    r->head[r->head_len++] = (unsigned char)c;
    if (r->head_len == 1)
        return hsb__websocket_check_first(r);
    if (r->head_len == 2 && !hsb__websocket_check_second(r))
        return false;
    if (r->head_len == r->head_need - 4 && !hsb__websocket_check_length(r))
        return false;
    if (r->head_len == r->head_need)
        hsb__websocket_frame_begins(r);
    return true;
}

/* Waits for the next frame.  The mask stays in head[] until that begins.                */
static void hsb__websocket_frame_ends(hsb__websocket_reader *r)
{
    r->head_len = 0;
    if (!hsb__websocket_is_control(r) && hsb__websocket_is_final(r))
        r->within = false;
}

/* Takes at most max bytes of the frame's payload off the input.                        */
static hsb_str hsb__websocket_payload(hsb__websocket_reader *r, hsb_str *in, size_t max)
{
    size_t n = in->len < max ? in->len : max;
    if (n > r->left)
        n = (size_t)r->left;
    hsb_str piece = hsb__text_make(in->ptr, n);
    *in = hsb__text_after(*in, n);
    r->left -= n;
    return piece;
}

/* RFC 6455 5.3: byte i of the payload is combined with byte i mod 4 of the mask, which is
   at the end of the head.  `to` may be where the piece is.                              */
static void hsb__websocket_unmask(hsb__websocket_reader *r, char *to, hsb_str piece)
{
    const unsigned char *mask = r->head + r->head_need - 4;
    unsigned char key[8];
    uint64_t wide, word;
    size_t i = 0;
    for (unsigned k = 0; k < sizeof key; k++)
        key[k] = mask[(r->mask_at + k) & 3u];
    memcpy(&wide, key, sizeof wide);
    for (; piece.len - i >= sizeof word; i += sizeof word) {
        memcpy(&word, piece.ptr + i, sizeof word);
        word ^= wide;
        memcpy(to + i, &word, sizeof word);
    }
    for (; i < piece.len; i++)
        to[i] = (char)((unsigned char)piece.ptr[i] ^ key[i & 7u]);
    r->mask_at = (r->mask_at + (unsigned)(piece.len & 3u)) & 3u;
}

static hsb__websocket_event hsb__websocket_read_control(hsb__websocket_reader *r, hsb_str *in)
{
    hsb_str piece = hsb__websocket_payload(r, in, SIZE_MAX);
    hsb__websocket_unmask(r, r->control + r->control_len, piece);
    r->control_len += (unsigned)piece.len;
    if (r->left)
        return HSB__WEBSOCKET_MORE;
    hsb__websocket_frame_ends(r);
    switch (hsb__websocket_opcode(r)) {
    case HSB__WEBSOCKET_OP_PING: return HSB__WEBSOCKET_PING;
    case HSB__WEBSOCKET_OP_PONG: return HSB__WEBSOCKET_PONG;
    default:                     return HSB__WEBSOCKET_CLOSE;
    }
}

/* An empty frame that does not end its message gives MORE: there is nothing to report. */
static hsb__websocket_event hsb__websocket_read_data(hsb__websocket_reader *r, hsb_str *in,
                                                     size_t max, hsb_str *piece)
{
    *piece = hsb__websocket_payload(r, in, max);
    r->last = r->left == 0 && hsb__websocket_is_final(r);
    if (r->left == 0)
        hsb__websocket_frame_ends(r);
    return piece->len || r->last ? HSB__WEBSOCKET_DATA : HSB__WEBSOCKET_MORE;
}

/* Takes the bytes of the next event off the input.  After DATA, *piece is the part of the
   input to pass to hsb__websocket_open_piece; it has at most max bytes, and is empty only
   if it is the last.                                                                    */
static hsb__websocket_event hsb__websocket_read(hsb__websocket_reader *r, hsb_str *in,
                                                size_t max, hsb_str *piece)
{
    hsb__websocket_event event = HSB__WEBSOCKET_MORE;
    while (event == HSB__WEBSOCKET_MORE) {
        if (r->bad)
            return HSB__WEBSOCKET_BAD;
        if (in->len == 0)
            return HSB__WEBSOCKET_MORE;
        if (r->head_len < r->head_need) {
            hsb__websocket_head_byte(r, *in->ptr);
            *in = hsb__text_after(*in, 1);
        }
        if (r->bad || r->head_len < r->head_need)
            continue;
        event = hsb__websocket_is_control(r) ? hsb__websocket_read_control(r, in)
                                             : hsb__websocket_read_data(r, in, max, piece);
    }
    return event;
}

/* Unmasks a piece into piece.len bytes at `to`.  False: the text is not UTF-8 (RFC 6455 8.1),
   which is noticed with the first byte that cannot belong to it.                       */
static bool hsb__websocket_open_piece(hsb__websocket_reader *r, char *to, hsb_str piece)
{
    hsb__websocket_unmask(r, to, piece);
    if (!r->text)
        return true;
    if (hsb__utf8_read(&r->utf8, to, piece.len) == piece.len &&
        !(r->last && r->utf8.need))
        return true;
    return hsb__websocket_bad(r, HSB__WEBSOCKET_NOT_UTF8, "text is not UTF-8");
}

/* --- frames out ------------------------------------------------------------------------ */

/* RFC 6455 5.1: a server does not mask.  Returns the head's length, 2, 4 or 10.        */
static size_t hsb__websocket_print_head(char out[10], bool last, unsigned opcode, uint64_t len)
{
    size_t wide = len < 126 ? 0 : len < 65536 ? 2 : 8;
    out[0] = (char)(opcode | (last ? 0x80u : 0u));
    out[1] = (char)(wide == 0 ? len : wide == 2 ? 126 : 127);
    for (size_t i = 0; i < wide; i++)
        out[2 + i] = (char)(len >> 8 * (wide - 1 - i) & 0xFFu);
    return 2 + wide;
}

/* --- Close frames ---------------------------------------------------------------------- */

/* RFC 6455 7.4: is this a code that may be sent?  1012 to 1014 were registered later.  1004
   is reserved; 1005, 1006 and 1015 are never sent; 3000 to 4999 are free to use.        */
static bool hsb__websocket_code_is_good(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* The payload of a Close: empty without a code; a reason that is too long is shortened. */
static size_t hsb__websocket_print_close(char out[HSB__WEBSOCKET_CONTROL], int code,
                                         hsb_str reason)
{
    if (!hsb__websocket_code_is_good(code))
        return 0;
    reason = hsb__utf8_start(reason, HSB__WEBSOCKET_REASON);
    out[0] = (char)(code >> 8);
    out[1] = (char)(code & 0xFF);
    if (reason.len)
        memcpy(out + 2, reason.ptr, reason.len);
    return 2 + reason.len;
}

/* RFC 6455 5.5.1: empty, or a code and a reason in UTF-8.  The reason stays in control[],
   because no frame after a Close is read.                                               */
static bool hsb__websocket_parse_close(hsb__websocket_reader *r, int *code, hsb_str *reason)
{
    const unsigned char *bytes = (const unsigned char *)r->control;
    *code = HSB__WEBSOCKET_NO_CODE;
    *reason = hsb__text_make("", 0);
    if (r->control_len == 0)
        return true;
    if (r->control_len == 1)
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "half a code in a Close");
    *code = bytes[0] << 8 | bytes[1];
    *reason = hsb__text_make(r->control + 2, r->control_len - 2);
    if (!hsb__websocket_code_is_good(*code))
        return hsb__websocket_bad(r, HSB__WEBSOCKET_PROTOCOL, "code not allowed in a Close");
    return hsb__utf8_is(*reason) ||
           hsb__websocket_bad(r, HSB__WEBSOCKET_NOT_UTF8, "reason is not UTF-8");
}

/* --- one message, all of it ------------------------------------------------------------- */

typedef struct hsb__websocket_message {
    hsb__memory *memory;
    char        *bytes;
    size_t       len, size;
} hsb__websocket_message;

static void hsb__websocket_message_release(hsb__websocket_message *m)
{
    hsb__memory_free_secret(m->memory, m->bytes, m->size);
    m->bytes = NULL;
    m->len = m->size = 0;
}

/* Returns where `more` bytes can be added.  The buffer doubles, so that a message in many
   fragments is copied only a few times, but not beyond `most`, which the message will not
   exceed.  An announcement alone makes us allocate nothing.                             */
static char *hsb__websocket_message_space(hsb__websocket_message *m, size_t more, uint64_t most)
{
    if (m->bytes && more <= m->size - m->len)
        return m->bytes + m->len;
    if (more > SIZE_MAX / 2 - m->len)
        return NULL;
    size_t need = m->len + more, size = m->size * 2;
    if (size > most)
        size = (size_t)most;
    if (size < need)
        size = need;
    size += size == 0;                              /* for an empty message             */
    char *bytes = hsb__memory_alloc(m->memory, size);
    if (!bytes)
        return NULL;
    if (m->len)
        memcpy(bytes, m->bytes, m->len);
    hsb__memory_free_secret(m->memory, m->bytes, m->size);
    m->bytes = bytes;
    m->size = size;
    return bytes + m->len;
}

/* Adds a piece that was reported as DATA; false: the reader's `bad` tells why.  Only in its
   last frame is the message's length known.                                             */
static bool hsb__websocket_message_add(hsb__websocket_message *m, hsb__websocket_reader *r,
                                       hsb_str piece)
{
    uint64_t most = hsb__websocket_is_final(r) ? r->length : r->limit;
    char *to = hsb__websocket_message_space(m, piece.len, most);
    if (!to)
        return hsb__websocket_bad(r, HSB__WEBSOCKET_INTERNAL, "out of memory");
    m->len += piece.len;
    return hsb__websocket_open_piece(r, to, piece);
}

/* --- the handshake's arithmetic --------------------------------------------------------- */

/* RFC 6455 4.1: base64 of 16 bytes: 22 digits and "==".                                */
static bool hsb__websocket_key_is_good(hsb_str key)
{
    if (key.len != 24 || key.ptr[22] != '=' || key.ptr[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (hsb__base64_value(key.ptr[i]) < 0)
            return false;
    return true;
}

/* RFC 6455 4.2.2: a hash of the key and of a text that only WebSocket servers know.    */
static void hsb__websocket_accept(char out[HSB__WEBSOCKET_ACCEPT], hsb_str key)
{
    static const char known[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[br_sha1_SIZE];
    br_sha1_context sha1;
    br_sha1_init(&sha1);
    br_sha1_update(&sha1, key.ptr, key.len);
    br_sha1_update(&sha1, known, sizeof known - 1);
    br_sha1_out(&sha1, digest);
    hsb__base64_print(out, digest, sizeof digest, false);
}

/* --- over a stream ----------------------------------------------------------------------

   One side sends a Close first, and the other answers it with a Close:
     peer first  [hsb__websocket_answer_close]  we send ours, and the stream closes
     we first    [hsb__websocket_close]         we wait for the peer's, at most timeouts.close;
                                                messages that it had already sent are still
                                                delivered
   After a failure [hsb__websocket_leave] we send a Close and do not wait.  on_close is called
   when the stream has closed, and then the struct is freed.                               */
struct hsb_websocket {
    hsb_stream            *stream;
    hsb__memory           *memory;
    hsb_websocket_hooks    hooks;       /* subprotocols is NULL from the handshake on   */
    char                  *subprotocol; /* the one that was chosen, or NULL             */
    bool                   close_sent;  /* only pongs may follow                        */
    bool                   part_sent;   /* our message has begun and not ended          */
    bool                   full;        /* from HSB_FLOW_WAIT to on_drain               */
    hsb__websocket_reader  reader;
    hsb__websocket_message message;
    int                    code;        /* for on_close: from the peer's Close          */
    hsb_str                reason;      /*   in reader.control                          */
    bool                   pong_waits;  /* pong[] is to be sent when there is space again */
    unsigned               pong_len;
    char                   pong[HSB__WEBSOCKET_CONTROL];
};

/* Every frame of ours is sent here.                                                    */
static hsb_flow hsb__websocket_put(hsb_websocket *ws, bool last, unsigned opcode,
                                   hsb_str payload)
{
    char bytes[10];
    size_t len = hsb__websocket_print_head(bytes, last, opcode, payload.len);
    hsb_flow flow = hsb__stream_write_both(ws->stream, hsb__text_make(bytes, len), payload);
    ws->full = flow == HSB_FLOW_WAIT;
    return flow;
}

/* RFC 6455 5.5.1: at most one Close is sent.                                           */
static void hsb__websocket_put_close(hsb_websocket *ws, int code, hsb_str reason)
{
    if (ws->close_sent)
        return;
    ws->close_sent = true;
    char body[HSB__WEBSOCKET_CONTROL];
    size_t len = hsb__websocket_print_close(body, code, reason);
    hsb__websocket_put(ws, true, HSB__WEBSOCKET_OP_CLOSE, hsb__text_make(body, len));
}

/* RFC 6455 7.1.1: the server ends the connection; 7.1.7: input after a failure is ignored. */
static void hsb__websocket_leave(hsb_websocket *ws, int code, const char *reason)
{
    hsb__websocket_put_close(ws, code, hsb__text_of(reason));
    hsb__stream_close(ws->stream, false);
}

/* RFC 6455 5.5.3: while earlier pongs could not be sent, only the latest ping needs an
   answer.  So a peer that pings and does not read costs us one stored pong.            */
static void hsb__websocket_pong(hsb_websocket *ws, hsb_str payload)
{
    ws->pong_waits = ws->full;
    if (!ws->full) {
        hsb__websocket_put(ws, true, HSB__WEBSOCKET_OP_PONG, payload);
        return;
    }
    ws->pong_len = (unsigned)payload.len;
    memcpy(ws->pong, payload.ptr, payload.len);
}

/* RFC 6455 5.5.1: answered with a Close that repeats the code.                         */
static void hsb__websocket_answer_close(hsb_websocket *ws)
{
    int code;
    hsb_str reason;
    if (!hsb__websocket_parse_close(&ws->reader, &code, &reason)) {
        hsb__websocket_leave(ws, ws->reader.bad, ws->reader.why);
        return;
    }
    ws->code = code;
    ws->reason = reason;
    hsb__websocket_leave(ws, code, "");
}

/* Checks the rules even if there is no hook.                                           */
static void hsb__websocket_deliver_part(hsb_websocket *ws, hsb_str piece)
{
    char bytes[HSB__WEBSOCKET_PART];
    hsb__websocket_reader *r = &ws->reader;
    if (!hsb__websocket_open_piece(r, bytes, piece))
        return;
    if (ws->hooks.on_fragment)
        ws->hooks.on_fragment(ws, r->text, hsb__text_make(bytes, piece.len), r->last,
                              ws->hooks.user);
}

static void hsb__websocket_deliver_message(hsb_websocket *ws, hsb_str piece)
{
    hsb__websocket_message *m = &ws->message;
    if (!hsb__websocket_message_add(m, &ws->reader, piece) || !ws->reader.last)
        return;
    size_t len = m->len;
    m->len = 0;                                     /* the next message reuses the buffer */
    ws->hooks.on_message(ws, ws->reader.text, hsb__text_make(m->bytes, len), ws->hooks.user);
}

/* Handles one event of the input; false: all input is used.                            */
static bool hsb__websocket_step(hsb_websocket *ws, hsb_str *in)
{
    const hsb__websocket_reader *r = &ws->reader;
    const bool whole = ws->hooks.on_message && !ws->hooks.on_fragment;
    const size_t max = whole ? SIZE_MAX : HSB__WEBSOCKET_PART;
    hsb_str piece = hsb__text_absent();
    switch (hsb__websocket_read(&ws->reader, in, max, &piece)) {
    case HSB__WEBSOCKET_MORE:
        return false;
    case HSB__WEBSOCKET_DATA:
        if (whole)
            hsb__websocket_deliver_message(ws, piece);
        else
            hsb__websocket_deliver_part(ws, piece);
        break;
    case HSB__WEBSOCKET_PING:
        hsb__websocket_pong(ws, hsb__text_make(r->control, r->control_len));
        break;
    case HSB__WEBSOCKET_PONG:
        if (ws->hooks.on_pong)
            ws->hooks.on_pong(ws, hsb__text_make(r->control, r->control_len), ws->hooks.user);
        break;
    case HSB__WEBSOCKET_CLOSE:
        hsb__websocket_answer_close(ws);
        break;
    case HSB__WEBSOCKET_BAD:
        hsb__websocket_leave(ws, r->bad, r->why);
        break;
    }
    return true;
}

static void hsb__websocket_on_data(hsb_stream *stream, hsb_str part, void *user)
{
    hsb_websocket *ws = user;
    while (!hsb__stream_gone(stream) && hsb__websocket_step(ws, &part))
        ;
    if (ws->message.len == 0)                       /* no memory while nothing arrives  */
        hsb__websocket_message_release(&ws->message);
}

static void hsb__websocket_on_end(hsb_stream *stream, void *user)
{
    hsb_websocket *ws = user;
    hsb__websocket_bad(&ws->reader, HSB__WEBSOCKET_CUT_OFF, "ended without a Close");
    hsb__stream_close(stream, false);
}

static void hsb__websocket_on_drain(hsb_stream *stream, void *user)
{
    hsb_websocket *ws = user;
    (void)stream;
    ws->full = false;
    if (ws->pong_waits)
        hsb__websocket_pong(ws, hsb__text_make(ws->pong, ws->pong_len));
    if (!ws->close_sent && !ws->full && ws->hooks.on_drain)
        ws->hooks.on_drain(ws, ws->hooks.user);
}

static void hsb__websocket_free(hsb_websocket *ws)
{
    hsb__memory *memory = ws->memory;
    hsb__websocket_message_release(&ws->message);
    if (ws->subprotocol)
        hsb__memory_free(memory, ws->subprotocol, strlen(ws->subprotocol) + 1);
    hsb__memory_free_secret(memory, ws, sizeof *ws);
}

/* RFC 6455 7.1.5: the code is that of the peer's Close, also when we closed first.  With code
   1006 RFC 6455 7.1.6 has no reason; we use it to say what happened on our side.        */
static void hsb__websocket_on_close(hsb_stream *stream, const hsb_error *error, void *user)
{
    hsb_websocket *ws = user;
    (void)stream;
    if (ws->code == HSB__WEBSOCKET_CUT_OFF)
        ws->reason = hsb__text_of(ws->reader.bad ? ws->reader.why : error ? error->text : "");
    if (ws->hooks.on_close)
        ws->hooks.on_close(ws, ws->code, ws->reason, ws->hooks.user);
    hsb__websocket_free(ws);
}

/* --- the public functions --------------------------------------------------------------- */

/* RFC 6455 5.4: the first part says whether the message is text; until the last part is
   sent, only pings may be sent in between.                                             */
static hsb_flow hsb__websocket_send_part(hsb_websocket *ws, bool text, hsb_str part, bool last)
{
    unsigned opcode = ws->part_sent ? HSB__WEBSOCKET_OP_MORE
                    : text          ? HSB__WEBSOCKET_OP_TEXT
                                    : HSB__WEBSOCKET_OP_BINARY;
    if (ws->close_sent)                             /* RFC 6455 5.5.1: no data after it */
        return HSB_FLOW_GONE;
    ws->part_sent = !last;
    return hsb__websocket_put(ws, last, opcode, part);
}

/* RFC 6455 5.4: a part was sent, so no other message may begin before the last one.  */
static bool hsb__websocket_in_message(const hsb_websocket *ws)
{
    return ws->part_sent && !ws->close_sent && !hsb__stream_gone(ws->stream);
}

static hsb_flow hsb__websocket_send(hsb_websocket *ws, bool text, hsb_str message)
{
    if (ws->close_sent || hsb__stream_gone(ws->stream))
        return HSB_FLOW_GONE;
    return hsb__websocket_send_part(ws, text, message, true);
}

static hsb_flow hsb__websocket_ping(hsb_websocket *ws, hsb_str payload)
{
    if (ws->close_sent)
        return HSB_FLOW_GONE;
    return hsb__websocket_put(ws, true, HSB__WEBSOCKET_OP_PING, payload);
}

static void hsb__websocket_give_up(hsb_stream *stream, void *arg)
{
    hsb_websocket *ws = arg;
    hsb__websocket_bad(&ws->reader, HSB__WEBSOCKET_CUT_OFF, "no Close of the peer in time");
    hsb__stream_close(stream, false);
}

/* 0 sends a Close without a code.  So do NO_CODE and CUT_OFF: what on_close reported of
   another WebSocket may be handed on.                                                  */
static bool hsb__websocket_code_is_allowed(int code)
{
    return code == 0 || code == HSB__WEBSOCKET_NO_CODE || code == HSB__WEBSOCKET_CUT_OFF ||
           hsb__websocket_code_is_good(code);
}

/* The reason is cut where it is too long or not UTF-8.                                 */
static void hsb__websocket_close(hsb_websocket *ws, int code, hsb_str reason)
{
    int patience = ws->stream->channel.loop->options.timeouts.close;
    if (ws->close_sent)
        return;
    hsb__websocket_put_close(ws, code, reason);
    hsb__stream_resume(ws->stream);                 /* so that the peer's Close is read */
    if (patience >= 0 &&
        !hsb__stream_after(ws->stream, patience, hsb__websocket_give_up, ws))
        hsb__websocket_give_up(ws->stream, ws);
}

/* timeouts.stream: a peer that is alive answers this (RFC 6455 5.5.2).                 */
static void hsb__websocket_probe(hsb_stream *stream)
{
    hsb_websocket *ws = stream->hooks.user;
    if (!ws->close_sent && !ws->full)
        hsb__websocket_put(ws, true, HSB__WEBSOCKET_OP_PING, hsb__text_absent());
}

static hsb_stream *hsb__websocket_stream(const hsb_websocket *ws)
{
    return ws->stream;
}

static const char *hsb__websocket_subprotocol(const hsb_websocket *ws)
{
    return ws->subprotocol;
}

static void hsb__websocket_set_user(hsb_websocket *ws, void *user)
{
    ws->hooks.user = user;
}

/* --- the handshake ---------------------------------------------------------------------- */

/* RFC 6455 4.3: a token, or one in quotes; there a backslash may precede each character. */
static bool hsb__websocket_is_value(hsb_str s)
{
    if (s.len < 3 || s.ptr[0] != '"' || s.ptr[s.len - 1] != '"')
        return hsb__text_is_token(s);
    for (size_t i = 1; i + 1 < s.len; i++) {
        i += s.ptr[i] == '\\';
        if (!hsb__byte_is(s.ptr[i], HSB__BYTE_TOKEN))
            return false;
    }
    return true;
}

/* RFC 6455 4.3: name; param; param=value                                               */
static bool hsb__websocket_is_extension(hsb_str s)
{
    bool good = hsb__text_is_token(hsb__text_trim(hsb__text_cut(&s, ';')));
    while (good && s.ptr) {
        hsb_str value = hsb__text_cut(&s, ';');
        hsb_str param = hsb__text_cut(&value, '=');
        good = hsb__text_is_token(hsb__text_trim(param)) &&
               (!value.ptr || hsb__websocket_is_value(hsb__text_trim(value)));
    }
    return good;
}

/* RFC 9110 5.6.1: true if every field of that name is a list whose elements all pass.  */
static bool hsb__websocket_lists(const hsb_request *req, const char *field, bool (*passes)(hsb_str))
{
    hsb_str name = hsb__text_of(field), element;
    for (int i = -1; (i = hsb__request_find(req, name, i + 1)) >= 0;) {
        hsb_str value = hsb__request_value(req, i);
        if (!hsb__text_next_element(&value, &element))
            return false;
        do
            if (!passes(element))
                return false;
        while (hsb__text_next_element(&value, &element));
    }
    return true;
}

/* RFC 6455 11.3: the value of a field that must come once; absent also if it comes twice. */
static hsb_str hsb__websocket_only(const hsb_request *req, const char *field)
{
    hsb_str name = hsb__text_of(field);
    int i = hsb__request_find(req, name, 0);
    bool once = i >= 0 && hsb__request_find(req, name, i + 1) < 0;
    return once ? hsb__request_value(req, i) : hsb__text_absent();
}

/* RFC 6455 4.2.1: what is wrong with the handshake, or NULL.  Another version is not judged
   here, because it has an answer of its own.                                           */
static const char *hsb__websocket_objection(const hsb_request *req)
{
    if (!hsb__request_method_is(req, "GET"))
        return "a WebSocket handshake is a GET\n";
    if (req->head.minor < 1)
        return "a WebSocket handshake is HTTP/1.1\n";
    if (!hsb__request_lists(req, "upgrade", "websocket", true))
        return "a WebSocket handshake has Upgrade: websocket\n";
    if (!hsb__request_lists(req, "connection", "upgrade", true))
        return "a WebSocket handshake has Connection: Upgrade\n";
    if (req->head.content_length != 0)              /* -1: chunked                      */
        return "a WebSocket handshake has no body\n";
    if (!hsb__websocket_only(req, "sec-websocket-version").ptr)
        return "a WebSocket handshake has one Sec-WebSocket-Version\n";
    if (!hsb__websocket_lists(req, "sec-websocket-protocol", hsb__text_is_token))
        return "Sec-WebSocket-Protocol is malformed\n";
    if (!hsb__websocket_lists(req, "sec-websocket-extensions", hsb__websocket_is_extension))
        return "Sec-WebSocket-Extensions is malformed\n";
    return NULL;
}

static void hsb__websocket_other_version(hsb_request *req)
{
    if (hsb__response_header(req, "Sec-WebSocket-Version", "13") &&  /* RFC 6455 4.4      */
        hsb__response_header(req, "Upgrade", "websocket"))           /* RFC 9110 15.5.22  */
        hsb__response_text(req, 426, "this server speaks version 13 of WebSocket\n");
    else
        hsb__response_text(req, 500, "out of memory\n");
}

/* False: the handshake was not valid, and the request has been answered.                */
static bool hsb__websocket_agrees(hsb_request *req)
{
    const char *objection = hsb__websocket_objection(req);
    if (objection) {
        hsb__response_text(req, 400, objection);
    } else if (!hsb__text_is(hsb__websocket_only(req, "sec-websocket-version"), "13")) {
        hsb__websocket_other_version(req);
    } else if (!hsb__websocket_key_is_good(hsb__websocket_only(req, "sec-websocket-key"))) {
        hsb__response_text(req, 400, "a WebSocket handshake has one Sec-WebSocket-Key, "
                                     "and it is 16 bytes in base64\n");
    } else {
        return true;
    }
    return false;
}

/* RFC 6455 4.2.2: the first of our subprotocols that the peer offers, or NULL.         */
static const char *hsb__websocket_choose(const hsb_request *req, const char *const *ours)
{
    for (; ours && *ours; ours++)
        if (hsb__request_lists(req, "sec-websocket-protocol", *ours, false))
            return *ours;
    return NULL;
}

static uint64_t hsb__websocket_limit(int64_t message_bytes)
{
    if (message_bytes == 0)
        return 1 << 20;
    return message_bytes < 0 ? INT64_MAX : (uint64_t)message_bytes;
}

static hsb_websocket *hsb__websocket_new(hsb_request *req, const hsb_websocket_hooks *hooks)
{
    hsb__memory *memory = hsb__request_memory(req);
    hsb_websocket *ws = hsb__memory_zeroed(memory, sizeof *ws);
    const char *chosen = hsb__websocket_choose(req, hooks->subprotocols);
    if (!ws)
        return NULL;
    ws->memory = ws->message.memory = memory;
    ws->hooks = *hooks;
    ws->hooks.subprotocols = NULL;
    ws->code = HSB__WEBSOCKET_CUT_OFF;
    hsb__websocket_reader_start(&ws->reader, hsb__websocket_limit(hooks->message_bytes));
    if (chosen && !(ws->subprotocol = hsb__memory_copy_text(memory, chosen, strlen(chosen)))) {
        hsb__websocket_free(ws);
        return NULL;
    }
    return ws;
}

/* RFC 6455 4.2.2: sends the 101.  >>response adds its Connection field.                */
static hsb_stream *hsb__websocket_switch(hsb_request *req, hsb_websocket *ws)
{
    char accept[HSB__WEBSOCKET_ACCEPT];
    hsb_stream_hooks hooks = {
        ws, hsb__websocket_on_data, hsb__websocket_on_end,
        hsb__websocket_on_drain, hsb__websocket_on_close
    };
    hsb__websocket_accept(accept, hsb__websocket_only(req, "sec-websocket-key"));
    if (!hsb__response_header(req, "Upgrade", "websocket") ||
        !hsb__response_header(req, "Sec-WebSocket-Accept", accept))
        return NULL;
    if (ws->subprotocol &&
        !hsb__response_header(req, "Sec-WebSocket-Protocol", ws->subprotocol))
        return NULL;
    return hsb__request_detach(req, 101, &hooks);
}

/* NULL: the request has been answered.                                                 */
static hsb_websocket *hsb__websocket_open(hsb_request *req, const hsb_websocket_hooks *hooks)
{
    if (!hsb__websocket_agrees(req))
        return NULL;
    hsb_websocket *ws = hsb__websocket_new(req, hooks);
    if (ws && (ws->stream = hsb__websocket_switch(req, ws)) != NULL) {
        ws->stream->probe = hsb__websocket_probe;
        return ws;
    }
    if (ws)
        hsb__websocket_free(ws);
    hsb__response_text(req, 500, "out of memory\n");
    return NULL;
}

/* ===== >>http1 ===================================================================
   Purpose  HTTP/1 as a connection receives it: head, body, trailers, 100-continue, limits,
            refusals; from here the hooks of a request are called
   Uses     >>list >>text >>buffer >>error >>loop >>head >>body >>frame >>channel
            >>request >>response
   Names    hsb__http1_*
   Tests    tests/wire, tests/live/limits.c, tests/live/responses.c, tests/live/timeouts.c

   A receiver is what >>conn hands a peer's bytes to, and it knows nothing of sockets and TLS.
   >>conn calls it through these:

     hsb__http1_wants_input   may bytes be read for it now?
     hsb__http1_receive       here are some
     hsb__http1_turn          something has moved: 100-continue, on_request, or a 500
     hsb__http1_drained       the queue is short again: on_drain
     hsb__http1_deadline      until when the peer must have sent what is awaited
     hsb__http1_time_out      it has not
     hsb__http1_finish        the answer is out, or the connection ends: on_finish

   The way back is req->channel alone: the queue, the error, the end that is asked for.    */
static void hsb__http1_hook(hsb_request *req, void (*hook)(hsb_request *, void *))
{
    hsb__loop *loop = req->channel.loop;
    if (!hook)
        return;
    hsb__loop_enter_hook(loop);
    hook(req, loop->options.hooks.user);
    hsb__loop_leave_hook(loop);
}

/* on_finish, exactly once for every on_head; then the object is ready for the next request. */
static void hsb__http1_finish(hsb_request *req)
{
    hsb__loop *loop = req->channel.loop;
    const hsb_hooks *hooks = &loop->options.hooks;
    const hsb_error *why = req->channel.why;
    bool told = req->opened && hooks->on_finish;
    req->opened = false;                        /* it is read for the last time, not answered */
    if (told) {
        hsb__loop_enter_hook(loop);
        hooks->on_finish(req, why->status == HSB_OK ? NULL : why, hooks->user);
        hsb__loop_leave_hook(loop);
    }
    hsb__request_reset(req);
}

/* --- a request that cannot be served ------------------------------------------------------ */
static hsb_status hsb__http1_refusal_kind(int status)
{
    if (status == 408)
        return HSB_ERR_TIMEOUT;
    return status == 413 || status == 414 || status == 431 ? HSB_ERR_LIMIT : HSB_ERR_HTTP;
}

/* Refuses a request, as nothing else in this file does: it is reported to on_error, the peer
   gets this status unless an answer has begun, no more of the request is read, and the
   connection closes after the answer.                                                        */
static void hsb__http1_refuse(hsb_request *req, int status, const char *reason)
{
    hsb__channel *ch = &req->channel;
    hsb__channel_record(ch, hsb__http1_refusal_kind(status), "%d %s: %s", status,
                        hsb__frame_reason(status), reason);
    req->receiving = HSB__END;
    hsb__channel_end(ch, HSB__LAST_ANSWER);
    if (req->sending == HSB__OPEN) {
        req->sending = HSB__ABORTED;            /* reported when the connection is cut        */
        return;
    }
    hsb__loop_error(ch->loop, ch->conn, ch->why);
    if (req->sending != HSB__NONE)
        return;
    char text[64];
    req->refused = true;
    snprintf(text, sizeof text, "%d %s\n", status, hsb__frame_reason(status));
    hsb__response_own(req, status, text);
}

static void hsb__http1_no_memory(hsb_request *req, const char *what)
{
    hsb__channel_record(&req->channel, HSB_ERR_MEMORY, "out of memory for a request's %s", what);
    hsb__channel_end(&req->channel, HSB__ENDS_NOW);
}

/* Nobody answered and nobody is going to: there is no ticket and no timer.                   */
static bool hsb__http1_is_unanswered(const hsb_request *req)
{
    return req->opened && req->receiving == HSB__END && req->sending == HSB__NONE &&
           !req->channel.promises && !hsb__link_first(&req->channel.afters);
}

/* The connection goes on, so this is no error of its own.                                    */
static void hsb__http1_answer_500(hsb_request *req)
{
    hsb_str method = hsb__request_text(req, req->head.method);
    hsb_str target = hsb__request_text(req, req->head.target);
    hsb_error err;
    hsb__error_set(&err, HSB_ERR_MISUSE, 0, 0, "no hook answered this request: %.*s %.*s",
                   (int)(method.len < 32 ? method.len : 32), method.ptr,
                   (int)(target.len < 160 ? target.len : 160), target.ptr);
    hsb__loop_error(req->channel.loop, req->channel.conn, &err);
    req->refused = true;
    hsb__response_plain_status(req, 500);
}

/* --- the body ----------------------------------------------------------------------------- */
/* The application still takes bytes of the body: it has not answered, or it reads the body in
   parts while it answers in parts.                                                           */
static bool hsb__http1_wants_body(const hsb_request *req)
{
    return req->sending == HSB__NONE || (req->sending == HSB__OPEN && req->streamed);
}

/* False is the back-pressure: the bytes stay in the socket.  A pause ends with the answer,
   after which the body is only skipped.                                                      */
static bool hsb__http1_wants_input(const hsb_request *req)
{
    if (req->detached || req->sending == HSB__ABORTED || req->receiving == HSB__END)
        return false;
    return req->receiving != HSB__BODY || !req->channel.paused || req->sending == HSB__LAST;
}

/* While the application pauses, a body is not over, even if its last byte was handled.       */
static bool hsb__http1_is_whole(const hsb_request *req)
{
    const hsb__head *h = &req->head;
    if (req->receiving != HSB__BODY)
        return false;
    if (hsb__request_has_no_body(req))
        return true;
    if (!hsb__http1_wants_input(req))
        return false;
    return h->chunked ? h->in_trailers && h->state == HSB__HEAD_FINISHED : req->body.left == 0;
}

/* To the reader or to on_body.  Returns how many of the bytes were used.                    */
static size_t hsb__http1_hand_over(hsb_request *req, hsb_str part)
{
    hsb__loop *loop = req->channel.loop;
    const hsb_hooks *hooks = &loop->options.hooks;
    size_t used = part.len;
    hsb__loop_enter_hook(loop);
    if (req->reader)
        used = req->reader(req, part);
    else if (hooks->on_body)
        hooks->on_body(req, part, hooks->user);
    hsb__loop_leave_hook(loop);
    return used;
}

/* BODY -> END.  The only place where on_request is called.  The application answers now,
   unless it has answered; or it learns that the body that it reads in parts is whole.        */
static void hsb__http1_end_body(hsb_request *req)
{
    req->receiving = HSB__END;
    if (hsb__http1_wants_body(req) && req->reader)
        hsb__http1_hand_over(req, hsb__text_absent());
    if (hsb__http1_wants_body(req) && !req->detached)
        hsb__http1_hook(req, req->channel.loop->options.hooks.on_request);
}

static int64_t hsb__http1_body_limit(const hsb_request *req)
{
    const hsb_limits *l = &req->channel.loop->options.limits;
    int64_t limit = req->streamed ? l->stream_bytes : l->body_bytes;
    return limit < 0 ? INT64_MAX : limit;
}

/* Beyond the bound, the lingering close reads the rest.                                      */
static void hsb__http1_skip_part(hsb_request *req, size_t len)
{
    req->skipped += (int64_t)len;
    if (req->skipped <= HSB__SKIP)
        return;
    req->receiving = HSB__END;
    hsb__channel_end(&req->channel, HSB__LAST_ANSWER);
}

/* Returns how many bytes of the part were left: they will come again.                        */
static size_t hsb__http1_body_part(hsb_request *req, hsb_str part)
{
    hsb__loop *loop = req->channel.loop;
    size_t left = 0;
    req->received += (int64_t)part.len;
    hsb__pace_count(&req->pace, hsb__loop_now_ms(loop), part.len);
    if (!hsb__http1_wants_body(req)) {
        hsb__http1_skip_part(req, part.len);
    } else if (req->received > hsb__http1_body_limit(req)) {
        hsb__http1_refuse(req, 413, "the body is over the limit");
    } else if (!req->streamed) {
        if (!hsb__buffer_append(&req->kept, part.ptr, part.len))
            hsb__http1_no_memory(req, "body");
    } else {
        left = part.len - hsb__http1_hand_over(req, part);
        req->received -= (int64_t)left;
        req->pace.bytes -= left;
        hsb__body_give_back(&req->body, left);
    }
    return left;
}

/* --- head and trailers -------------------------------------------------------------------- */
/* Reads on, field by field, in what the storage of the head or of the trailers holds.        */
static int hsb__http1_parse_text(hsb_request *req, bool trailers)
{
    const hsb__buffer *text = trailers ? &req->trailer_text : &req->text;
    const char *bytes = hsb__buffer_data(text);
    size_t len = hsb__buffer_len(text);
    for (;;) {
        int outcome = trailers ? hsb__head_parse_trailers(&req->head, bytes, len, 0)
                               : hsb__head_parse(&req->head, bytes, len);
        if (outcome != HSB__HEAD_SPACE)
            return outcome;
        if (!hsb__request_more_fields(req)) {
            hsb__http1_no_memory(req, "head");
            return HSB__HEAD_MORE;
        }
    }
}

enum { HSB__HEAD_PIECE = 1024 };        /* see hsb__http1_parse                               */

/* Copies bytes to that storage and parses on.  Returns how many of them belonged to it;
   *outcome becomes HSB__HEAD_MORE, _DONE or the status to refuse with.  It works piece by piece,
   because many other requests may follow a small head, and they must not be copied each time. */
static size_t hsb__http1_parse(hsb_request *req, hsb_str s, bool trailers, int *outcome)
{
    hsb__buffer *text = trailers ? &req->trailer_text : &req->text;
    size_t used = 0;
    *outcome = HSB__HEAD_MORE;
    while (used < s.len && *outcome == HSB__HEAD_MORE && req->channel.ending != HSB__ENDS_NOW) {
        size_t n = s.len - used < HSB__HEAD_PIECE ? s.len - used : HSB__HEAD_PIECE;
        size_t before = hsb__buffer_len(text);
        if (!hsb__buffer_append(text, s.ptr + used, n)) {
            hsb__http1_no_memory(req, "head");
            return 0;
        }
        *outcome = hsb__http1_parse_text(req, trailers);
        if (*outcome == HSB__HEAD_DONE) {
            n = req->head.end - before;
            text->tail = text->head + req->head.end;        /* what follows is not ours       */
        }
        used += n;
    }
    return used;
}

static size_t hsb__http1_receive_trailers(hsb_request *req, hsb_str s)
{
    int outcome;
    size_t used = hsb__http1_parse(req, s, true, &outcome);
    if (outcome != HSB__HEAD_MORE && outcome != HSB__HEAD_DONE)
        hsb__http1_refuse(req, outcome, hsb__head_reason(&req->head));
    return used;
}

/* One part of the body, or what is between two; returns how many bytes that was.             */
static size_t hsb__http1_receive_body(hsb_request *req, hsb_str s)
{
    size_t used = 0;
    hsb_str part;
    if (req->body.state == HSB__BODY_AT_TRAILERS)
        return hsb__http1_receive_trailers(req, s);
    switch (hsb__body_read(&req->body, s.ptr, s.len, &used, &part)) {
    case HSB__BODY_DATA:
        used -= hsb__http1_body_part(req, part);
        break;
    case HSB__BODY_BAD:
        hsb__http1_refuse(req, req->body.status, hsb__body_reason(&req->body));
        break;
    case HSB__BODY_MORE:
    case HSB__BODY_TRAILERS:                    /* the next bytes are trailers                */
    case HSB__BODY_DONE:                        /* see hsb__http1_is_whole                    */
        break;
    }
    return used;
}

/* WAIT -> HEAD                                                                               */
static void hsb__http1_start(hsb_request *req)
{
    hsb__loop *loop = req->channel.loop;
    const hsb_limits *l = &loop->options.limits;
    hsb__head_limits limits;
    limits.target = hsb__options_limit(l->target_bytes);
    limits.bytes = hsb__options_limit(l->head_bytes);
    limits.fields = hsb__options_limit(l->head_fields);
    hsb__head_start(&req->head, &limits);
    req->receiving = HSB__HEAD;
    req->began_us = loop->now_us;
}

/* HEAD -> BODY                                                                               */
static void hsb__http1_start_body(hsb_request *req)
{
    const hsb__head *h = &req->head;
    req->receiving = HSB__BODY;
    hsb__body_start(&req->body, h->chunked, h->content_length,
                    hsb__options_limit(req->channel.loop->options.limits.head_bytes));
    if (h->content_length > hsb__http1_body_limit(req) && req->sending == HSB__NONE)
        hsb__http1_refuse(req, 413, "Content-Length is over the limit");
}

static void hsb__http1_head_done(hsb_request *req)
{
    const hsb_options *o = &req->channel.loop->options;
    req->opened = true;
    req->continue_due = req->head.expect_continue;
    if (o->limits.requests > 0 && req->earlier + 1 >= o->limits.requests)
        hsb__channel_end(&req->channel, HSB__LAST_ANSWER);
    hsb__http1_hook(req, o->hooks.on_head);
    hsb__http1_start_body(req);
}

static size_t hsb__http1_receive_head(hsb_request *req, hsb_str s)
{
    int outcome;
    size_t used = hsb__http1_parse(req, s, false, &outcome);
    if (outcome == HSB__HEAD_DONE)
        hsb__http1_head_done(req);
    else if (outcome != HSB__HEAD_MORE)
        hsb__http1_refuse(req, outcome, hsb__head_reason(&req->head));
    return used;
}

/* Bytes of the peer, when they are wanted; returns how many were used.                       */
static size_t hsb__http1_receive(hsb_request *req, hsb_str s)
{
    if (req->receiving == HSB__WAIT)
        hsb__http1_start(req);
    return req->receiving == HSB__HEAD ? hsb__http1_receive_head(req, s)
                                       : hsb__http1_receive_body(req, s);
}

/* --- turns -------------------------------------------------------------------------------- */
/* RFC 9110 10.1.1: it was asked for, and the application neither pauses nor answers.         */
static void hsb__http1_send_continue(hsb_request *req)
{
    if (!req->continue_due || req->channel.paused || req->sending != HSB__NONE)
        return;
    req->continue_due = false;
    if (!hsb__response_put_continue(req))
        hsb__response_no_memory(req);
    hsb__channel_schedule(&req->channel);
}

static void hsb__http1_drained(hsb_request *req)
{
    if (req->sending != HSB__OPEN)
        return;
    req->channel.drain_due = false;
    hsb__http1_hook(req, req->channel.loop->options.hooks.on_drain);
}

/* True when something has changed.                                                           */
static bool hsb__http1_turn(hsb_request *req)
{
    hsb__http1_send_continue(req);
    bool whole = hsb__http1_is_whole(req);
    if (whole)
        hsb__http1_end_body(req);
    bool unanswered = hsb__http1_is_unanswered(req);
    if (unanswered)
        hsb__http1_answer_500(req);
    return whole || unanswered;
}

/* --- deadlines ---------------------------------------------------------------------------- */
/* Only the time in which the peer's bytes are awaited counts.  The clock is held while they
   are not, and never set back: else a peer could send a byte between two pauses for ever.    */
static void hsb__http1_set_pace(hsb_request *req, bool awaited)
{
    uint64_t now = hsb__loop_now_ms(req->channel.loop);
    if (awaited && req->receiving == HSB__BODY)
        hsb__pace_start(&req->pace, now);
    else
        hsb__pace_hold(&req->pace, now);
}

/* In ms; UINT64_MAX: nothing of a request is awaited from the peer.                          */
static uint64_t hsb__http1_deadline(const hsb_request *req)
{
    const hsb_options *o = &req->channel.loop->options;
    if (req->receiving == HSB__HEAD && o->timeouts.head >= 0)
        return req->began_us / 1000 + (uint64_t)o->timeouts.head;
    if (req->receiving == HSB__BODY)
        return hsb__pace_deadline(&req->pace, o->timeouts.body, o->limits.rate);
    return UINT64_MAX;
}

static void hsb__http1_time_out(hsb_request *req)
{
    hsb__http1_refuse(req, 408, req->receiving == HSB__HEAD ? "the head took too long"
                                                            : "the body is too slow");
}

/* ===== >>conn ====================================================================
   Purpose  a connection: moves bytes between the socket, TLS and whoever receives them;
            its phases, its ends, its deadlines
   Uses     >>platform >>list >>text >>buffer >>timer >>address >>poller >>listener >>der
            >>tls >>loop >>outgoing >>peers >>proxy >>channel >>request >>response
            >>stream >>http1
   Names    hsb__conn_*
   Tests    tests/wire, tests/live                                                   */

/* phase   PROXY     -> the next      [hsb__conn_leave_proxy]      (only with proxy_protocol)
           HANDSHAKE -> HTTP          [hsb__conn_turn_handshake]   (plain ones start in HTTP)
           HTTP      -> STREAM        [hsb__conn_enter_stream]     the request was detached
           any       -> CLOSING       [hsb__conn_close]
           CLOSING   -> LINGER        [hsb__conn_turn_closing]     our last byte was sent
           any       -> DEAD          [hsb__conn_drop]
   The other two machines are in >>request.

   PROXY      waits for the PROXY header; on_accept is called when that has named the client.
   HANDSHAKE  no request, nothing queued; TLS talks.
   HTTP       receiving and sending tell.  While an answer is being made (receiving END)
              nothing is read: what the client pipelines waits in the socket.
   STREAM     c->stream is set; the request is back in WAIT.
   CLOSING    what is received is dropped unread; what is queued goes out.
   LINGER     our side of the socket is shut; we wait for the peer's end, and still drop
              what is received: the kernel would answer it with a reset, which could take our
              last bytes away from the peer.
   DEAD       only until the step ends: hsb__conn_settle releases everything.

   An end is asked for in channel->ending, by anybody.  It is made by one of three functions:

             started by                         queued bytes  TLS           socket     phase
     close   the last answer is out; the idle   go out        close_notify  FIN, then  CLOSING
             timeout; the peer ended; a                                     lingering
             stream was closed; HSB__ENDS
     cut     HSB__ENDS_NOW; an answer that      are dropped   close_notify  FIN *      DEAD
             cannot be completed; no handshake                if the socket
             in time; another needs the place                 takes it
     drop    the socket or memory failed; a     are dropped   nothing       FIN *      DEAD
             peer that reads too slowly; the
             end of lingering; on_accept said no
     *  A reset where the peer did not read what it was sent (hsb__conn_drop_unread), and where
        the end itself would tell the peer that a body is whole, which it is not
        (hsb__conn_ends_body): close is a drop then, and a cut sends no close_notify.

   The step is the only place that moves bytes and calls hooks; a user's call sets a state,
   queues bytes and schedules.  Which deadline holds is derived from the state after each
   step and never kept beside it.                                                          */
typedef enum hsb__phase {
    HSB__PROXY, HSB__HANDSHAKE, HSB__HTTP, HSB__STREAM, HSB__CLOSING, HSB__LINGER, HSB__DEAD
} hsb__phase;

enum { HSB__STEP_ROUNDS = 12 };     /* then the others' turn: about 570 KiB of a download   */

struct hsb_conn {
    hsb__watch     watch;
    hsb__timer     timer;           /* never later than the deadline                        */
    hsb__loop     *loop;
    void         (*on_dead)(hsb_conn *);    /* server: off the lists, release                */
    hsb__listener *listener;        /* where it came in, and is counted                     */
    hsb__tls      *tls;             /* NULL: plain                                          */
    hsb__proxy    *proxy;           /* NULL but in phase PROXY                              */
    hsb_str        input;           /* received, not used yet: in loop->stage or in raw     */
    hsb__buffer    raw;
    hsb__channel  *channel;         /* the stream's, once there is one; else the request's  */
    hsb_stream    *stream;
    hsb__phase     phase;
    bool readable, writable;        /* the socket, as far as we know                        */
    bool announced;                 /* on_accept was called: on_close will be               */
    bool heard;                     /* the client has sent a byte; a PROXY header is not its  */
    bool eof;                       /* recv returned 0                                      */
    bool stepping, again;           /* again: scheduled during the step                     */
    bool grace;                     /* was in its handshake when the server began to close  */
    hsb__pace      pace_out;        /* of what the peer acknowledges                        */
    hsb__pace      pace_linger;     /* of what still comes in CLOSING and LINGER            */
    uint64_t       given;           /* bytes that the socket took                           */
    uint64_t       acknowledged;    /* of these, when we last looked                        */
    bool           reset;           /* the socket is to end with a reset                    */
    uint64_t       since;           /* ms: accepted, idle, or closing since                 */
    uint64_t       id;
    hsb__link      in_all;          /* the server's list of all connections                 */
    hsb__link      in_scheduled;    /* the loop's list                                      */
    hsb__link      in_idle;         /* the loop's silent or idle, as idle_list says         */
    hsb__link     *idle_list;
    uint64_t       idle_since;                  /* since, when it entered the idle          */
    hsb_address    peer;
    hsb__peer     *address;         /* counted there; NULL: not counted.  The server's      */
    size_t         block_size;      /* of our memory; the server's                          */
    void          *user;
    hsb_error      why;             /* the first thing that went wrong; HSB_OK: nothing     */
    hsb_request    request;
};

static uint64_t hsb__conn_now(const hsb_conn *c)
{
    return hsb__loop_now_ms(c->loop);
}

/* To be stepped before the loop waits again; from inside its own step: once more.           */
static void hsb__conn_schedule(hsb_conn *c)
{
    if (c->stepping) {
        c->again = true;
        return;
    }
    if (hsb__link_is_listed(&c->in_scheduled))
        return;
    hsb__link_add(&c->loop->scheduled, &c->in_scheduled);
    if (c->loop->depth == 0)                    /* called from the user's own loop           */
        hsb__wake_ring(&c->loop->inbox->wake);
}

/* --- the lists of silent and of idle connections ------------------------------------------- */
static void hsb__conn_enter_idle(hsb_conn *c, hsb__link *list)
{
    hsb__loop *loop = c->loop;
    hsb__link_add(list, &c->in_idle);
    c->idle_list = list;
    c->idle_since = c->since;
    if (loop->on_idle)
        loop->on_idle(loop->server);
}

/* Before on_accept the application does not know the connection.                            */
static void hsb__conn_report(hsb_conn *c, const hsb_error *err)
{
    hsb__loop_error(c->loop, c->announced ? c : NULL, err);
}

/* --- ends ------------------------------------------------------------------------------------- */
static bool hsb__conn_is_closing(const hsb_conn *c)
{
    return c->phase == HSB__CLOSING || c->phase == HSB__LINGER;
}

/* The end of the connection is what ends the body that is being sent (RFC 9112 6.3): unless
   it is whole, the end must look like an accident.                                          */
static bool hsb__conn_ends_body(const hsb_conn *c)
{
    const hsb_request *req = &c->request;
    return req->sending != HSB__NONE && req->promised == HSB__LENGTH_CLOSE && !req->bodiless;
}

static void hsb__conn_drop(hsb_conn *c)
{
    c->phase = HSB__DEAD;
}

/* The peer did not take what we had for it.  Without a reset the kernel would keep it for
   the peer, megabytes perhaps, for minutes.                                                 */
static void hsb__conn_drop_unread(hsb_conn *c)
{
    c->reset = true;
    hsb__conn_drop(c);
}

/* How many bytes the peer has acknowledged since we last looked.  What the kernel accepts says
   nothing about a reader: it takes megabytes at once, and then nothing for a long time.     */
static uint64_t hsb__conn_look_at_reader(hsb_conn *c)
{
    int64_t unsent = hsb__os_unsent(c->watch.fd);
    uint64_t waiting = unsent > 0 ? (uint64_t)unsent : 0;       /* -1: it cannot be known    */
    uint64_t now = waiting < c->given ? c->given - waiting : 0;
    uint64_t fresh = now > c->acknowledged ? now - c->acknowledged : 0;
    c->acknowledged += fresh;
    return fresh;
}

/* Nothing more can be read or written.  A handshake that fails is reported, whatever made
   it fail.                                                                                  */
static void hsb__conn_socket_failed(hsb_conn *c, int code)
{
    if (c->why.status == HSB_OK) {
        hsb__channel_record(c->channel, HSB_ERR_CLOSED, "connection lost: %s",
                            hsb__os_error_text(code));
        c->why.system_code = code;
    }
    if (c->phase <= HSB__HANDSHAKE)
        hsb__conn_report(c, &c->why);
    hsb__conn_drop(c);
}

static void hsb__conn_close(hsb_conn *c)
{
    if (c->phase >= HSB__CLOSING)
        return;
    if (hsb__conn_ends_body(c)) {
        hsb__conn_drop(c);
        return;
    }
    if (c->tls)
        hsb__tls_shut(c->tls);
    c->phase = HSB__CLOSING;
    c->input = hsb__text_absent();
    c->since = hsb__conn_now(c);
    hsb__conn_look_at_reader(c);
}

/* --- sending ---------------------------------------------------------------------------------- */
/* What the socket could take now.                                                           */
static hsb_str hsb__conn_sendable(hsb_conn *c)
{
    const hsb__buffer *bytes = &c->channel->out.bytes;
    if (c->tls)
        return hsb__tls_records(c->tls);
    return hsb__text_make(hsb__buffer_data(bytes), hsb__buffer_len(bytes));
}

/* After our close_notify, what was not made into records is never sent.                     */
static bool hsb__conn_has_output(hsb_conn *c)
{
    if (hsb__conn_sendable(c).len > 0)
        return true;
    return !(c->tls && hsb__conn_is_closing(c)) && !hsb__outgoing_empty(&c->channel->out);
}

static void hsb__conn_sent(hsb_conn *c, size_t n)
{
    if (c->tls)
        hsb__tls_records_sent(c->tls, n);
    else
        hsb__buffer_taken(&c->channel->out.bytes, n);
    c->given += n;
}

/* Records, or plain bytes, to the socket.                                                   */
static bool hsb__conn_push(hsb_conn *c)
{
    hsb_str s = hsb__conn_sendable(c);
    if (!s.len || !c->writable)
        return false;
    ptrdiff_t n = hsb__os_send(c->watch.fd, s.ptr, s.len);
    if (n < 0) {
        c->writable = false;
        if (!hsb__os_would_block())
            hsb__conn_socket_failed(c, hsb__os_error());
        return false;
    }
    c->writable = (size_t)n == s.len;           /* less: the socket is full                   */
    hsb__conn_sent(c, (size_t)n);
    return n > 0;
}

static void hsb__conn_cut(hsb_conn *c)
{
    if (c->tls && c->phase > HSB__HANDSHAKE && !hsb__conn_ends_body(c)) {
        hsb__tls_shut(c->tls);
        hsb__conn_push(c);
    }
    hsb__conn_drop(c);
}

/* Bytes that were not used yet leave the stage, which the next connection needs.            */
static bool hsb__conn_keep_input(hsb_conn *c)
{
    if (!c->input.len) {
        hsb__buffer_release(&c->raw);
        return true;
    }
    if (!c->raw.data || c->input.ptr < c->raw.data || c->input.ptr >= c->raw.data + c->raw.size) {
        hsb__buffer_taken(&c->raw, hsb__buffer_len(&c->raw));
        if (!hsb__buffer_append(&c->raw, c->input.ptr, c->input.len))
            return false;
        c->input.ptr = hsb__buffer_data(&c->raw);
    }
    return true;
}

/* The next turn cuts, as it does whenever what was promised cannot be kept.                 */
static void hsb__conn_source_failed(hsb_conn *c)
{
    static const char text[] = "a file shrank or could not be read while it was sent";
    if (c->phase == HSB__HTTP) {
        hsb__response_fail(&c->request, HSB_ERR_SYSTEM, "%s", text);
        return;
    }
    hsb__channel_record(c->channel, HSB_ERR_SYSTEM, "%s", text);
    hsb__conn_drop(c);
}

/* Plain: the source goes through the queue, one stage at a time.                            */
static bool hsb__conn_fill_plain(hsb_conn *c)
{
    hsb__outgoing *out = &c->channel->out;
    if (!out->source || hsb__buffer_len(&out->bytes) > 0 || !hsb__conn_keep_input(c))
        return false;
    ptrdiff_t n = hsb__outgoing_pull(out, c->loop->stage, HSB__STAGE);
    if (n < 0 || !hsb__buffer_append(&out->bytes, c->loop->stage, (size_t)n))
        hsb__conn_source_failed(c);
    return n > 0;
}

/* TLS: the queue goes straight into records, as many as go out at once.                      */
static bool hsb__conn_fill(hsb_conn *c)
{
    hsb__outgoing *out = &c->channel->out;
    size_t space;
    char *at;
    bool moved = false;
    if (!c->tls)
        return hsb__conn_fill_plain(c);
    while (!hsb__outgoing_empty(out) && !hsb__conn_is_closing(c) &&
           (at = hsb__tls_writable(c->tls, &space)) != NULL) {
        ptrdiff_t n = hsb__outgoing_pull(out, at, space);
        if (n < 0) {
            hsb__conn_source_failed(c);
            return false;
        }
        hsb__tls_written(c->tls, (size_t)n);
        moved = true;
    }
    if (moved && hsb__outgoing_empty(out))
        hsb__tls_flush(c->tls);
    else if (hsb__outgoing_empty(out) && !c->input.len && !hsb__tls_plain(c->tls).len)
        hsb__tls_greet(c->tls);
    return moved;
}

/* --- receiving -------------------------------------------------------------------------------- */
static bool hsb__conn_hook_bool(hsb_conn *c, bool (*hook)(hsb_conn *, void *))
{
    if (!hook)
        return true;
    hsb__loop_enter_hook(c->loop);
    bool on = hook(c, c->loop->options.hooks.user);
    hsb__loop_leave_hook(c->loop);
    return on;
}

/* False is the back-pressure: the bytes stay in the socket.                                    */
static bool hsb__conn_wants_input(const hsb_conn *c)
{
    if (c->channel->ending == HSB__ENDS_NOW)
        return false;
    switch (c->phase) {
    case HSB__PROXY:
    case HSB__HANDSHAKE:
        return true;
    case HSB__HTTP:
        return hsb__http1_wants_input(&c->request);
    case HSB__STREAM:
        return !c->channel->paused && !c->stream->ended;
    default:
        return false;
    }
}

static hsb_str hsb__conn_plain(hsb_conn *c)
{
    return c->tls ? hsb__tls_plain(c->tls) : c->input;
}

static void hsb__conn_input_used(hsb_conn *c, size_t n)
{
    c->input = hsb__text_make(c->input.ptr + n, c->input.len - n);
}

static size_t hsb__conn_receive_stream(hsb_conn *c, hsb_str s)
{
    hsb_stream *stream = c->stream;
    hsb__stream_moved(stream);
    if (stream->hooks.on_data && !hsb__stream_gone(stream)) {
        hsb__loop_enter_hook(c->loop);
        stream->hooks.on_data(stream, s, stream->hooks.user);
        hsb__loop_leave_hook(c->loop);
    }
    return s.len;
}

/* One piece of plaintext to the receiver.                                                       */
static bool hsb__conn_deliver(hsb_conn *c)
{
    if (c->phase <= HSB__HANDSHAKE || !hsb__conn_wants_input(c))
        return false;
    hsb_str s = hsb__conn_plain(c);
    if (!s.len)
        return false;
    size_t used = c->phase == HSB__STREAM ? hsb__conn_receive_stream(c, s)
                                          : hsb__http1_receive(&c->request, s);
    if (c->tls && used)
        hsb__tls_plain_used(c->tls, used);
    else if (used)
        hsb__conn_input_used(c, used);
    return true;
}

/* One record, at most, into TLS; the header in phase PROXY.                                      */
static bool hsb__conn_pass_record(hsb_conn *c)
{
    size_t n;
    if ((!c->tls && !c->proxy) || !c->input.len || !hsb__conn_wants_input(c))
        return false;
    n = c->proxy ? hsb__proxy_receive(c->proxy, c->input)
                 : hsb__tls_receive(c->tls, hsb__der_pointer(c->input), c->input.len);
    hsb__conn_input_used(c, n);
    return n > 0;
}

static bool hsb__conn_read(hsb_conn *c)
{
    bool discard = hsb__conn_is_closing(c);
    if (!c->readable || c->eof ||
        (!discard && (hsb__conn_plain(c).len || c->input.len || !hsb__conn_wants_input(c))))
        return false;
    ptrdiff_t n = hsb__os_recv(c->watch.fd, c->loop->stage, HSB__STAGE);
    c->readable = n == HSB__STAGE;              /* less: the socket is empty, or will say so      */
    c->heard |= n > 0;
    if (n == 0)
        c->eof = true;
    else if (n < 0 && !hsb__os_would_block())
        hsb__conn_socket_failed(c, hsb__os_error());
    else if (n > 0 && !discard)
        c->input = hsb__text_make(c->loop->stage, (size_t)n);
    else if (n > 0)
        hsb__pace_count(&c->pace_linger, hsb__conn_now(c), (uint64_t)n);
    return n >= 0;
}

/* --- turns: what a phase does when bytes have moved --------------------------------------- */
/* The peer is the proxy, or somebody who should not be here.                                     */
static void hsb__conn_refuse_proxy(hsb_conn *c, hsb_status status, const char *reason)
{
    char from[HSB_ADDRESS_TEXT_MAX];
    hsb__channel_record(c->channel, status, "PROXY header from %s: %s",
                        hsb__address_text(&c->peer, from), reason);
    hsb__conn_report(c, &c->why);
    hsb__conn_drop(c);
}

/* From here on all is as if the client had connected itself.                                     */
static void hsb__conn_leave_proxy(hsb_conn *c)
{
    if (c->proxy->named)
        c->peer = c->proxy->client;
    hsb__proxy_release(&c->loop->pool, c->proxy);
    c->proxy = NULL;
    c->heard = c->input.len > 0;
    c->phase = c->tls ? HSB__HANDSHAKE : HSB__HTTP;
    if (!c->tls)
        c->since = hsb__conn_now(c);
    if (!c->loop->on_named(c))
        hsb__conn_drop(c);
}

static bool hsb__conn_turn_proxy(hsb_conn *c)
{
    if (c->proxy->wrong)
        hsb__conn_refuse_proxy(c, HSB_ERR_HTTP, c->proxy->wrong);
    else if (c->proxy->whole)
        hsb__conn_leave_proxy(c);
    else if (c->eof)
        hsb__conn_refuse_proxy(c, HSB_ERR_CLOSED, "the peer left before its end");
    else
        return false;
    return true;
}

/* TLS failed, or both sides have closed it.                                                      */
static void hsb__conn_tls_ended(hsb_conn *c)
{
    hsb_error err;
    memset(&err, 0, sizeof err);
    hsb__tls_error_of(c->tls, &err);
    if (err.status != HSB_OK) {
        if (c->why.status == HSB_OK)
            c->why = err;
        hsb__loop_error(c->loop, c, &err);
    }
    hsb__conn_close(c);
}

static bool hsb__conn_turn_handshake(hsb_conn *c)
{
    hsb__tls_phase phase = hsb__tls_phase_of(c->tls);
    if (phase == HSB__TLS_OPEN) {
        c->phase = HSB__HTTP;
        c->since = hsb__conn_now(c);
        if (!hsb__conn_hook_bool(c, c->loop->options.hooks.on_handshake))
            hsb__conn_close(c);
        return true;
    }
    if (phase == HSB__TLS_DEAD) {
        hsb__conn_tls_ended(c);
        return true;
    }
    if (c->eof && !c->input.len) {
        hsb__channel_record(c->channel, HSB_ERR_CLOSED, "the peer left during the handshake");
        hsb__loop_error(c->loop, c, &c->why);
        hsb__conn_drop(c);
        return true;
    }
    return false;
}

/* The peer sends no more, or what it sends cannot be read.                                       */
static bool hsb__conn_input_ended(hsb_conn *c)
{
    if (hsb__conn_plain(c).len)
        return false;
    if (c->tls && (hsb__tls_phase_of(c->tls) == HSB__TLS_DEAD || hsb__tls_peer_shut(c->tls)))
        return true;
    return c->eof && !c->input.len;
}

/* TLS: an end without close_notify may be somebody else's cut (RFC 5246 7.2.1).                  */
static bool hsb__conn_lacks_close_notify(const hsb_conn *c)
{
    return c->tls && c->eof && !hsb__tls_peer_shut(c->tls);
}

static void hsb__conn_peer_left(hsb_conn *c)
{
    hsb_request *req = &c->request;
    bool mid = req->receiving == HSB__HEAD || req->receiving == HSB__BODY;
    bool dead = c->tls && hsb__tls_phase_of(c->tls) == HSB__TLS_DEAD;
    if (req->sending == HSB__LAST && !(dead && !hsb__outgoing_empty(&c->channel->out))) {
        req->receiving = HSB__END;              /* the answer is complete, and may still be read  */
        hsb__channel_end(c->channel, HSB__LAST_ANSWER);
        return;
    }
    if (dead) {
        hsb__conn_tls_ended(c);
        if (!mid)
            return;
    }
    if (mid)
        hsb__channel_record(c->channel, HSB_ERR_CLOSED,
                            "the peer left in the middle of a request");
    else if (hsb__conn_lacks_close_notify(c))
        hsb__channel_record(c->channel, HSB_ERR_CLOSED, "the peer left without close_notify");
    hsb__conn_close(c);
}

/* On to the next request, or to the end.                                                         */
static void hsb__conn_answer_sent(hsb_conn *c)
{
    bool go_on = c->channel->ending == HSB__STAYS && c->request.receiving == HSB__END &&
                 !c->loop->closing;
    hsb__http1_finish(&c->request);
    c->since = hsb__conn_now(c);
    if (!go_on)
        hsb__conn_close(c);
}

/* HTTP -> STREAM.  What was asked of the connection now holds for the stream.                    */
static void hsb__conn_enter_stream(hsb_conn *c)
{
    hsb_request *req = &c->request;
    c->stream = req->detached;
    c->channel = &c->stream->channel;
    c->phase = HSB__STREAM;
    if (req->channel.ending >= HSB__ENDS)
        hsb__channel_end(c->channel, req->channel.ending);
    hsb__http1_finish(req);
}

static void hsb__conn_drained(hsb_conn *c)
{
    hsb_stream *s = c->stream;
    if (!hsb__channel_is_drained(c->channel))
        return;
    if (!s) {
        hsb__http1_drained(&c->request);
        return;
    }
    s->channel.drain_due = false;
    if (s->hooks.on_drain && !hsb__stream_gone(s)) {
        hsb__loop_enter_hook(c->loop);
        s->hooks.on_drain(s, s->hooks.user);
        hsb__loop_leave_hook(c->loop);
    }
}

static bool hsb__conn_turn_http(hsb_conn *c)
{
    hsb_request *req = &c->request;
    bool moved = hsb__http1_turn(req);
    bool ends = req->channel.ending != HSB__STAYS;
    if (req->sending == HSB__ABORTED) {
        hsb__loop_error(c->loop, c, &c->why);
        hsb__conn_cut(c);
    } else if (req->detached) {
        hsb__conn_enter_stream(c);
    } else if (req->sending == HSB__LAST && !hsb__conn_has_output(c) &&
               (req->receiving == HSB__END || ends)) {
        hsb__conn_answer_sent(c);
    } else if (hsb__conn_wants_input(c) && hsb__conn_input_ended(c)) {
        hsb__conn_peer_left(c);
    } else if (req->receiving == HSB__WAIT && (ends || (c->loop->closing && !c->grace))) {
        hsb__conn_close(c);
    } else {
        return moved;
    }
    return true;
}

/* RFC 5246 7.2.1 lets us answer close_notify only with our own; over plain TCP the other half
   stays open until the application closes.                                                       */
static void hsb__conn_stream_ended(hsb_conn *c)
{
    hsb_stream *s = c->stream;
    s->ended = true;
    if (hsb__conn_lacks_close_notify(c)) {
        hsb__channel_record(c->channel, HSB_ERR_CLOSED, "the peer left without close_notify");
        hsb__conn_drop(c);
        return;
    }
    bool told = s->hooks.on_end && !hsb__stream_gone(s);
    if (told) {
        hsb__loop_enter_hook(c->loop);
        s->hooks.on_end(s, s->hooks.user);
        hsb__loop_leave_hook(c->loop);
    }
    if (!told || c->tls)
        hsb__stream_close(s, false);
}

static bool hsb__conn_turn_stream(hsb_conn *c)
{
    hsb_stream *s = c->stream;
    if (!s->ended && !s->channel.paused && hsb__conn_input_ended(c))
        hsb__conn_stream_ended(c);
    else if (hsb__stream_gone(s) &&
             (!hsb__conn_has_output(c) || (c->tls && hsb__tls_phase_of(c->tls) == HSB__TLS_DEAD)))
        hsb__conn_close(c);
    else
        return false;
    return true;
}

/* Our FIN follows the last byte; after it, and after the peer's, nothing keeps us.               */
static bool hsb__conn_turn_closing(hsb_conn *c)
{
    if (hsb__conn_has_output(c))
        return false;
    if (c->eof || (c->tls && hsb__tls_peer_shut(c->tls))) {
        hsb__conn_drop(c);
        return true;
    }
    hsb__os_end_sending(c->watch.fd);
    c->phase = HSB__LINGER;
    return true;
}

static bool hsb__conn_turn(hsb_conn *c)
{
    if (c->channel->ending == HSB__ENDS_NOW && c->phase < HSB__DEAD) {
        hsb__conn_cut(c);
        return true;
    }
    switch (c->phase) {
    case HSB__PROXY:
        return hsb__conn_turn_proxy(c);
    case HSB__HANDSHAKE:
        return hsb__conn_turn_handshake(c);
    case HSB__HTTP:
        hsb__conn_drained(c);
        return hsb__conn_turn_http(c);
    case HSB__STREAM:
        hsb__conn_drained(c);
        return hsb__conn_turn_stream(c);
    case HSB__CLOSING:
        return hsb__conn_turn_closing(c);
    case HSB__LINGER:
        if (c->eof)
            hsb__conn_drop(c);
        return c->eof;
    case HSB__DEAD:
        break;
    }
    return false;
}

/* --- which deadline ----------------------------------------------------------------------- */
static uint64_t hsb__conn_in(uint64_t since, int period_ms)
{
    return period_ms < 0 ? UINT64_MAX : since + (uint64_t)period_ms;
}

/* Silence counts while the application reads.  What waits for the peer has pace_out instead.     */
static void hsb__conn_set_stream_pace(hsb_conn *c, uint64_t now)
{
    if (c->channel->paused)
        hsb__pace_hold(&c->stream->pace, now);
    else
        hsb__pace_start(&c->stream->pace, now);
    if (c->pace_out.began)
        hsb__stream_moved(c->stream);
}

/* Starts and stops the paces as the state asks, so that only waiting for the peer counts.        */
static void hsb__conn_set_paces(hsb_conn *c)
{
    uint64_t now = hsb__conn_now(c);
    if (!hsb__conn_has_output(c)) {
        hsb__pace_stop(&c->pace_out);
    } else if (!c->pace_out.began) {
        hsb__pace_start(&c->pace_out, now);
        hsb__conn_look_at_reader(c);            /* what it read before does not count now         */
    }
    if (hsb__conn_is_closing(c))
        hsb__pace_start(&c->pace_linger, now);
    if (c->phase == HSB__HTTP)
        hsb__http1_set_pace(&c->request, hsb__conn_wants_input(c));
    if (c->phase == HSB__STREAM)
        hsb__conn_set_stream_pace(c, now);
}

/* A silent peer gets timeouts.close.  One that still sends a body may go on for timeouts.body
   more: the reset that meets its bytes after that could overtake our answer.                     */
static uint64_t hsb__conn_linger_deadline(const hsb_conn *c)
{
    const hsb_timeouts *t = &c->loop->options.timeouts;
    uint64_t quiet = hsb__pace_deadline(&c->pace_linger, t->close, c->loop->options.limits.rate);
    uint64_t whole = hsb__conn_in(hsb__conn_in(c->since, t->close), t->body);
    return t->close < 0 || t->body < 0 || quiet < whole ? quiet : whole;
}

/* In ms; UINT64_MAX: it is the application's turn, and that may take as long as it takes.        */
static uint64_t hsb__conn_deadline(hsb_conn *c)
{
    const hsb_timeouts *t = &c->loop->options.timeouts;
    if (c->phase <= HSB__HANDSHAKE)
        return hsb__conn_in(c->since, t->handshake);
    if (hsb__conn_is_closing(c))
        return hsb__conn_linger_deadline(c);
    if (c->pace_out.began)
        return hsb__pace_deadline(&c->pace_out, t->write, c->loop->options.limits.rate);
    if (c->phase == HSB__STREAM)
        return hsb__stream_deadline(c->stream);
    if (c->request.receiving == HSB__WAIT)
        return hsb__conn_in(c->since, c->grace && c->loop->closing ? t->close : t->idle);
    return hsb__http1_deadline(&c->request);
}

/* A deadline seems to be over, but the peer may have read meanwhile.                             */
static void hsb__conn_count_reader(hsb_conn *c)
{
    int64_t least = (int64_t)c->loop->options.limits.rate * c->loop->options.timeouts.close / 1000;
    if (!c->pace_out.began && !hsb__conn_is_closing(c))
        return;
    uint64_t fresh = hsb__conn_look_at_reader(c);
    if (c->pace_out.began && fresh)
        hsb__pace_count(&c->pace_out, hsb__conn_now(c), fresh);
    if (hsb__conn_is_closing(c) && fresh && (int64_t)fresh >= least) {
        c->since = hsb__conn_now(c);            /* the peer is still reading: count from now      */
        hsb__pace_stop(&c->pace_linger);
        hsb__pace_start(&c->pace_linger, c->since);
    }
}

static void hsb__conn_stream_silent(hsb_stream *s)
{
    if (s->probe && !s->probed) {
        hsb__stream_probe(s);
        return;
    }
    hsb__channel_record(&s->channel, HSB_ERR_TIMEOUT, "no byte in either direction for too long");
    hsb__stream_close(s, false);
}

/* The deadline of this state is over.                                                            */
static void hsb__conn_time_out(hsb_conn *c)
{
    if (c->phase == HSB__CLOSING) {
        hsb__conn_drop_unread(c);
    } else if (c->phase == HSB__LINGER) {
        hsb__conn_drop(c);
    } else if (c->phase == HSB__PROXY) {
        hsb__conn_refuse_proxy(c, HSB_ERR_TIMEOUT, "not complete in time");
    } else if (c->phase == HSB__HANDSHAKE) {
        hsb__channel_record(c->channel, HSB_ERR_TIMEOUT, "no handshake in time");
        hsb__loop_error(c->loop, c, &c->why);
        hsb__conn_cut(c);
    } else if (c->pace_out.began) {
        hsb__channel_record(c->channel, HSB_ERR_TIMEOUT, "the peer reads too slowly");
        hsb__loop_error(c->loop, c, &c->why);
        hsb__conn_drop_unread(c);
    } else if (c->phase == HSB__STREAM) {
        hsb__conn_stream_silent(c->stream);
    } else if (c->request.receiving == HSB__WAIT) {
        hsb__channel_record(c->channel, HSB_ERR_TIMEOUT, "idle for too long");
        hsb__conn_close(c);
    } else {
        hsb__http1_time_out(&c->request);
    }
}

/* --- the step ----------------------------------------------------------------------------- */
/* The end of what the application was given: on_finish, or the stream's on_close.                */
static void hsb__conn_end_receivers(hsb_conn *c)
{
    hsb_request *req = &c->request;
    hsb_stream *stream = c->stream ? c->stream : req->detached;     /* detached, and lost before
                                                                       phase STREAM               */
    c->channel = &req->channel;
    if (req->opened) {
        hsb__channel_record(c->channel, HSB_ERR_CLOSED,
                            "the connection ended before the answer did");
        req->written = hsb__response_bytes(req);
        hsb__outgoing_clear(&req->channel.out); /* owned bodies are released before on_finish     */
        hsb__http1_finish(req);
    }
    hsb__request_reset(req);
    c->stream = NULL;
    if (stream)
        hsb__stream_end(stream, c->why.status == HSB_OK ? NULL : &c->why);
    hsb__outgoing_clear(&req->channel.out);
}

/* All its hooks are called for the last time; afterwards c does not exist.                       */
static void hsb__conn_release(hsb_conn *c)
{
    const hsb_hooks *hooks = &c->loop->options.hooks;
    if (c->reset || hsb__conn_ends_body(c))
        hsb__os_close_will_reset(c->watch.fd);
    hsb__conn_end_receivers(c);
    if (hooks->on_close && c->announced) {
        hsb__loop_enter_hook(c->loop);
        hooks->on_close(c, &c->why, hooks->user);
        hsb__loop_leave_hook(c->loop);
    }
    hsb__timer_cancel(&c->timer);
    hsb__link_remove(&c->in_idle);
    hsb__link_remove(&c->in_scheduled);
    hsb__poller_drop(&c->loop->poller, &c->watch);
    hsb__os_close(c->watch.fd);
    hsb__buffer_release(&c->raw);
    hsb__proxy_release(&c->loop->pool, c->proxy);
    if (c->tls)
        hsb__tls_release(&c->loop->tls, c->tls);
    c->on_dead(c);
}

/* READ stays armed while it does no harm, so that a keep-alive exchange needs no call here.      */
static bool hsb__conn_arm(hsb_conn *c)
{
    unsigned want = c->eof ? 0 : c->watch.armed & HSB__READ;
    bool reads = hsb__conn_is_closing(c) || hsb__conn_wants_input(c);
    if (reads && !c->eof && !c->readable)
        want |= HSB__READ;
    if (!c->writable && hsb__conn_has_output(c))
        want |= HSB__WRITE;
    return hsb__poller_set(&c->loop->poller, &c->watch, want);
}

/* Keeps the loop's lists of connections that may be ended when there are too many.               */
static void hsb__conn_set_idle(hsb_conn *c)
{
    hsb__link *list = NULL;
    if (!c->heard && c->phase <= HSB__HTTP)
        list = &c->loop->silent;
    else if (c->phase == HSB__HTTP && c->request.receiving == HSB__WAIT && !c->input.len)
        list = &c->loop->idle;
    if (list != c->idle_list || c->idle_since != c->since)
        hsb__link_remove(&c->in_idle);
    if (list && !hsb__link_is_listed(&c->in_idle))
        hsb__conn_enter_idle(c, list);
}

static void hsb__conn_set_timer(hsb_conn *c)
{
    uint64_t due = hsb__conn_deadline(c);
    if (due != UINT64_MAX && (!hsb__timer_is_set(&c->timer) || due < c->timer.due))
        hsb__timer_set(&c->loop->timers, &c->timer, due);
}

/* After the step: release what is not needed, tell the poller and the timer, or end it all.      */
static void hsb__conn_settle(hsb_conn *c)
{
    if (c->phase != HSB__DEAD) {
        hsb__conn_set_paces(c);
        hsb__conn_set_idle(c);
        if (c->tls)
            hsb__tls_sleep(c->tls);
        if (hsb__buffer_len(&c->channel->out.bytes) == 0)
            hsb__buffer_release(&c->channel->out.bytes);
        if (!hsb__conn_keep_input(c) || !hsb__conn_arm(c)) {
            hsb__channel_record(c->channel, HSB_ERR_MEMORY, "out of memory for a connection");
            hsb__conn_drop(c);
        }
    }
    if (c->phase == HSB__DEAD)
        hsb__conn_release(c);
    else
        hsb__conn_set_timer(c);
}

/* The one loop of a connection: receive, feed, deliver, take what is to be sent, send, and
   again until nothing moves.  A small exchange takes one round, and a second one to see its
   end.  A connection that still has work after its rounds yields to the others.                  */
static void hsb__conn_step(hsb_conn *c)
{
    int rounds = HSB__STEP_ROUNDS;
    bool moved = true;
    c->stepping = true;
    while (moved && c->phase != HSB__DEAD && rounds-- > 0) {
        c->again = false;
        moved = hsb__conn_read(c);
        moved |= c->phase != HSB__DEAD && hsb__conn_pass_record(c);
        moved |= c->phase != HSB__DEAD && hsb__conn_deliver(c);
        moved |= c->phase != HSB__DEAD && hsb__conn_turn(c);
        moved |= c->phase != HSB__DEAD && hsb__conn_fill(c);
        moved |= c->phase != HSB__DEAD && hsb__conn_push(c);
        moved |= c->again;
    }
    c->stepping = false;
    if (moved && c->phase != HSB__DEAD)
        hsb__conn_schedule(c);
    hsb__conn_settle(c);
}

/* --- events ------------------------------------------------------------------------------- */
static void hsb__conn_ready(hsb__watch *watch, unsigned events)
{
    hsb_conn *c = watch->owner;
    bool reads = hsb__conn_wants_input(c) || hsb__conn_is_closing(c);
    if (events & HSB__WRITE)
        c->writable = true;
    if (events & (HSB__READ | HSB__BROKEN))
        c->readable = true;
    if (events & HSB__BROKEN) {
        c->writable = true;
        if (!reads) {
            int code = hsb__os_socket_error(c->watch.fd);
            hsb__conn_socket_failed(c, code ? code : HSB__OS_RESET);
        }
    } else if ((events & HSB__READ) && !reads) {
        hsb__poller_set(&c->loop->poller, watch, watch->armed & HSB__WRITE);
    }
    hsb__conn_step(c);
}

static void hsb__conn_fire(hsb__timer *timer)
{
    hsb_conn *c = timer->owner;
    if (hsb__conn_deadline(c) <= c->loop->timers.now)
        hsb__conn_count_reader(c);
    if (hsb__conn_deadline(c) <= c->loop->timers.now)
        hsb__conn_time_out(c);
    hsb__conn_step(c);
}

/* hsb_conn_close: true ends it now, false after what is being done.                              */
static void hsb__conn_end(hsb_conn *c, bool force)
{
    hsb__channel_end(c->channel, force ? HSB__ENDS_NOW : HSB__ENDS);
}

/* Asked for only when somebody wants to know.                                                    */
static hsb_address hsb__conn_local(const hsb_conn *c)
{
    hsb_address a;
    hsb__os_local_address(c->watch.fd, &a);
    return a;
}

/* A connection on an accepted socket; its memory is zeroed.  False: there was no memory, or no
   randomness, for TLS or the poller; the caller settles it all the same.                         */
static bool hsb__conn_open(hsb_conn *c, hsb__loop *loop, hsb__socket fd, const hsb_address *peer,
                           hsb_security *security, void (*on_dead)(hsb_conn *))
{
    const hsb_options *o = &loop->options;
    c->loop = loop;
    c->on_dead = on_dead;
    c->peer = *peer;
    c->watch.fd = fd;
    c->watch.ready = hsb__conn_ready;
    c->watch.owner = c;
    c->timer.fire = hsb__conn_fire;
    c->timer.owner = c;
    c->raw.pool = &loop->pool;
    c->phase = o->proxy_protocol ? HSB__PROXY : security ? HSB__HANDSHAKE : HSB__HTTP;
    c->writable = true;
    c->since = hsb__conn_now(c);
    hsb__request_init(&c->request, loop, c, &c->why, hsb__conn_schedule);
    c->channel = &c->request.channel;
    if (security)
        c->tls = hsb__tls_open(&loop->tls, security, o->request_client_certificate,
                               o->require_client_certificate);
    if (o->proxy_protocol)
        c->proxy = hsb__proxy_new(&loop->pool);
    if ((!security || c->tls) && (!o->proxy_protocol || c->proxy) &&
        hsb__poller_add(&loop->poller, &c->watch, HSB__READ))
        return true;
    hsb__channel_record(c->channel, HSB_ERR_MEMORY, "out of memory or randomness for a connection");
    hsb__conn_drop(c);
    return false;
}

/* ===== >>server ==================================================================
   Purpose  listening, accepting, the inbox, closing: one turn of the loop
   Uses     >>platform >>memory >>list >>text >>error >>timer >>address >>poller
            >>listener >>inbox >>security >>tls >>loop >>peers >>channel >>request >>conn
   Names    hsb__server_*, hsb__door_*
   Tests    tests/live                                                               */

enum {
    HSB__ACCEPTS = 64,          /* in one turn, so that connections get theirs; sharers: 1 */
    HSB__PAUSE_MS = 100,        /* after an error that would come again at once           */
    HSB__PASS_MS = 1,           /* a sharer that passes stops accepting so long            */
    HSB__SPARE_FDS = 16         /* descriptors that are not for connections               */
};

/* A listening socket and what its connections speak.                                      */
typedef struct hsb__door {
    hsb__listener listener;
    hsb_security *security;     /* NULL: plain                                             */
    hsb_server   *server;
    hsb__timer    pause;        /* while it is set, nothing is accepted                    */
} hsb__door;

struct hsb_server {
    hsb__loop   loop;
    hsb__door **doors;
    int         door_count, door_space;
    hsb__link   all;            /* connections                                             */
    int         total, most;    /* how many there are, and may be                          */
    uint64_t    last_id;
    hsb__peers  peers;          /* used if limits.per_address is set                       */
    hsb__timer  shutdown;       /* close(false) becomes close(true)                        */
    bool        full;           /* accepting waits until one closes                        */
    bool        closed;
    char       *header;         /* options.server_header, copied                           */
    void       *user;
};

/* --- connections ---------------------------------------------------------------------------- */
static void hsb__door_listen(hsb__door *door)
{
    hsb_server *s = door->server;
    bool open = !s->full && !hsb__timer_is_set(&door->pause);
    if (door->listener.watch.fd != HSB__NO_SOCKET)
        hsb__poller_set(&s->loop.poller, &door->listener.watch, open ? HSB__READ : 0);
}

static void hsb__server_listen_all(hsb_server *s)
{
    for (int i = 0; i < s->door_count; i++)
        hsb__door_listen(s->doors[i]);
}

/* A connection has ended or become idle, so that another can be accepted.                 */
static void hsb__server_open_doors(hsb_server *s)
{
    if (!s->full)
        return;
    s->full = false;
    s->loop.on_idle = NULL;
    hsb__server_listen_all(s);
}

static void hsb__server_close_doors(hsb_server *s)
{
    s->full = true;
    s->loop.on_idle = hsb__server_open_doors;
    hsb__server_listen_all(s);
}

/* The connection after c, or the first; NULL: there are no more.                          */
static hsb_conn *hsb__server_next(const hsb_server *s, const hsb_conn *c)
{
    hsb__link *link = hsb__link_next(&s->all, c ? &c->in_all : &s->all);
    return link ? HSB__OWNER(hsb_conn, in_all, link) : NULL;
}

static void hsb__server_link(hsb_server *s, hsb_conn *c)
{
    c->id = ++s->last_id;
    hsb__link_add(&s->all, &c->in_all);
    s->total++;
    s->loop.held++;
}

/* c->on_dead: releases the connection.                                                       */
static void hsb__server_unlink(hsb_conn *c)
{
    hsb_server *s = c->loop->server;
    hsb__link_remove(&c->in_all);
    s->total--;
    s->loop.held--;
    hsb__listener_count(c->listener, -1);
    if (c->address)
        hsb__peers_leave(&s->peers, c->address);
    hsb__pool_put(&s->loop.pool, c, c->block_size);
    if (!s->loop.closing)
        hsb__server_open_doors(s);
}

/* The first in a list whose socket has nothing to read: bytes may have come that were not
   received yet.                                                                                */
static hsb_conn *hsb__server_first_quiet(const hsb__link *list)
{
    for (hsb__link *l = hsb__link_first(list); l; l = hsb__link_next(list, l)) {
        hsb_conn *c = HSB__OWNER(hsb_conn, in_idle, l);
        if (!hsb__os_peek(c->watch.fd))
            return c;
    }
    return NULL;
}

/* The connection that is closed when there are too many: the oldest of those that have sent
   nothing yet, else the one that has been idle longest.  NULL: there is none.  So a client that
   opens connections and sends nothing only drives out its own.                              */
static hsb_conn *hsb__server_expendable(const hsb_server *s)
{
    hsb_conn *c = hsb__server_first_quiet(&s->loop.silent);
    return c ? c : hsb__server_first_quiet(&s->loop.idle);
}

/* Closes c in favour of a new connection.  A close_notify is sent if the socket takes it now.    */
static void hsb__server_evict(hsb_conn *c)
{
    hsb__channel_record(c->channel, HSB_ERR_LIMIT, "%s, and made room for another connection",
                        c->heard ? "idle" : "sent nothing");
    hsb__conn_cut(c);
    hsb__conn_settle(c);
}

/* No hook was called for this connection yet.                                               */
static void hsb__server_reject(hsb_server *s, hsb__socket fd, const hsb_error *err)
{
    hsb__os_close(fd);
    hsb__loop_error(&s->loop, NULL, err);
}

/* limits.per_address.  *address then counts this connection; NULL: nothing does.             */
static bool hsb__server_admits(hsb_server *s, const hsb_address *peer, hsb__peer **address,
                               hsb_error *err)
{
    int most = s->loop.options.limits.per_address;
    char text[HSB_ADDRESS_TEXT_MAX];
    *address = NULL;
    if (most < 0 || peer->family == HSB_FAMILY_ANY || peer->family == HSB_UNIX)
        return true;
    *address = hsb__peers_enter(&s->peers, peer);
    if (!*address)
        return hsb__error_memory(err);
    if ((*address)->connections <= most)
        return true;
    hsb__peers_leave(&s->peers, *address);
    *address = NULL;
    return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "%s: its address has %d connections already",
                          hsb__address_text(peer, text), most);
}

static void hsb__server_welcome(hsb__door *door, hsb__socket fd, const hsb_address *peer,
                                hsb__peer *address)
{
    hsb_server *s = door->server;
    size_t size = sizeof(hsb_conn);
    hsb_error err;
    hsb_conn *c = hsb__pool_get(&s->loop.pool, &size);
    if (!c) {
        if (address)
            hsb__peers_leave(&s->peers, address);
        hsb__error_memory(&err);
        hsb__server_reject(s, fd, &err);
        return;
    }
    memset(c, 0, sizeof *c);
    c->block_size = size;
    c->address = address;
    c->listener = &door->listener;
    c->announced = !s->loop.options.proxy_protocol;
    hsb__server_link(s, c);
    hsb__listener_count(&door->listener, 1);
    if (!hsb__conn_open(c, &s->loop, fd, peer, door->security, hsb__server_unlink))
        hsb__conn_report(c, &c->why);
    if (c->announced && !hsb__conn_hook_bool(c, s->loop.options.hooks.on_accept))
        hsb__conn_drop(c);
    hsb__conn_settle(c);
}

/* loop.on_named: what accepting does for others, once a PROXY header has named the client.       */
static bool hsb__server_named(hsb_conn *c)
{
    hsb_server *s = c->loop->server;
    hsb_error err;
    if (!hsb__server_admits(s, &c->peer, &c->address, &err)) {
        hsb__conn_report(c, &err);
        return false;
    }
    c->announced = true;
    return hsb__conn_hook_bool(c, s->loop.options.hooks.on_accept);
}

/* --- accepting ---------------------------------------------------------------------------- */
static void hsb__door_pause_over(hsb__timer *timer)
{
    hsb__door_listen(timer->owner);
}

static void hsb__door_pause(hsb__door *door, int ms)
{
    hsb__loop *loop = &door->server->loop;
    hsb__timer_set(&loop->timers, &door->pause, hsb__loop_now_ms(loop) + (uint64_t)ms);
    hsb__door_listen(door);
}

/* Files that are being sent hold descriptors, which new connections cannot have.                */
static bool hsb__server_is_at_limit(const hsb_server *s)
{
    return s->total >= s->most || s->loop.held >= s->loop.descriptors;
}

/* Whether there is, or can be made, a place for one more.  *leaver: the connection to end for
   it, or NULL.                                                                                  */
static bool hsb__door_has_place(hsb__door *door, hsb_conn **leaver)
{
    hsb_server *s = door->server;
    *leaver = NULL;
    if (!hsb__server_is_at_limit(s))
        return true;
    if (hsb__link_first(&s->loop.silent) || hsb__link_first(&s->loop.idle))
        *leaver = hsb__server_expendable(s);    /* NULL: all have sent something by now      */
    else
        hsb__server_close_doors(s);
    return *leaver != NULL;
}

/* The system has no descriptor, or no memory, for a connection.  Returns as hsb__door_accept.   */
static bool hsb__door_accept_failed(hsb__door *door, const hsb_error *err)
{
    hsb_server *s = door->server;
    bool no_descriptor = err->system_code == HSB__OS_NO_DESCRIPTOR;
    if (no_descriptor && !hsb__os_is_readable(door->listener.watch.fd))
        return false;           /* Linux looks for a free descriptor before it looks for a
                                   connection that needs one                               */
    hsb__loop_error(&s->loop, NULL, err);
    hsb_conn *leaver = no_descriptor ? hsb__server_expendable(s) : NULL;
    if (!leaver) {
        hsb__door_pause(door, HSB__PAUSE_MS);
        return false;
    }
    hsb__server_evict(leaver);      /* the process uses the other descriptors elsewhere     */
    return !door->listener.shared;
}

static void hsb__door_accepted(hsb__door *door, hsb__socket fd, const hsb_address *peer,
                               hsb_conn *leaver)
{
    hsb_server *s = door->server;
    hsb__peer *address = NULL;
    hsb_error err;
    if (!s->loop.options.proxy_protocol && !hsb__server_admits(s, peer, &address, &err)) {
        hsb__server_reject(s, fd, &err);
        return;
    }
    if (leaver)
        hsb__server_evict(leaver);
    hsb__server_welcome(door, fd, peer, address);
}

/* One connection, if there is one; false: enough for this turn.                                 */
static bool hsb__door_accept(hsb__door *door)
{
    hsb_conn *leaver;
    hsb_address peer;
    hsb_error err;
    hsb__socket fd;
    if (!hsb__door_has_place(door, &leaver))
        return false;
    if (!hsb__listener_my_turn(&door->listener)) {
        hsb__door_pause(door, HSB__PASS_MS);
        return false;
    }
    switch (hsb__listener_accept(&door->listener, &fd, &peer, &err)) {
    case HSB__ACCEPTED:
        hsb__door_accepted(door, fd, &peer, leaver);
        return !door->listener.shared;
    case HSB__ACCEPT_EMPTY:
        return false;
    case HSB__ACCEPT_AGAIN:
        hsb__loop_error(&door->server->loop, NULL, &err);
        return true;
    case HSB__ACCEPT_PAUSE:
        return hsb__door_accept_failed(door, &err);
    }
    return false;
}

static void hsb__door_ready(hsb__watch *watch, unsigned events)
{
    hsb__door *door = watch->owner;
    (void)events;
    for (int i = 0; i < HSB__ACCEPTS && door->listener.watch.fd != HSB__NO_SOCKET; i++)
        if (!hsb__door_accept(door))
            break;
}

static void hsb__door_shut(hsb__door *door)
{
    hsb__timer_cancel(&door->pause);
    if (door->listener.watch.fd == HSB__NO_SOCKET)
        return;
    hsb__poller_drop(&door->server->loop.poller, &door->listener.watch);
    hsb__listener_close(&door->listener);
}

/* --- listening ---------------------------------------------------------------------------- */
static bool hsb__server_grow_doors(hsb_server *s)
{
    int space = s->door_space ? s->door_space * 2 : 2;
    if (s->door_count < s->door_space)
        return true;
    hsb__door **more =
        hsb__memory_grow(&s->loop.memory, s->doors, (size_t)s->door_space * sizeof *more,
                         (size_t)space * sizeof *more);
    if (!more)
        return false;
    s->doors = more;
    s->door_space = space;
    return true;
}

/* A door whose listener the caller opens; NULL: see *err.                                        */
static hsb__door *hsb__server_new_door(hsb_server *s, hsb_security *security, hsb_error *err)
{
    const hsb_options *o = &s->loop.options;
    if (security && !hsb__security_suits(security, o->request_client_certificate,
                                         o->require_client_certificate, err))
        return NULL;
    hsb__door *door =
        hsb__server_grow_doors(s) ? hsb__memory_zeroed(&s->loop.memory, sizeof *door) : NULL;
    if (!door) {
        hsb__error_memory(err);
        return NULL;
    }
    door->server = s;
    door->pause.fire = hsb__door_pause_over;
    door->pause.owner = door;
    door->listener.watch.ready = hsb__door_ready;
    door->listener.watch.owner = door;
    return door;
}

static int hsb__server_add_door(hsb_server *s, hsb__door *door, hsb_security *security,
                                hsb_error *err)
{
    if (!hsb__poller_add(&s->loop.poller, &door->listener.watch, s->full ? 0 : HSB__READ)) {
        hsb__error_system(err, hsb__os_error(), "watching the listening socket");
        return -1;
    }
    if (security)
        hsb__security_retain(security);
    door->security = security;
    s->doors[s->door_count] = door;
    return s->door_count++;
}

/* address NULL: fd, which is taken over on success only.                                         */
static int hsb__server_listen(hsb_server *s, const hsb_address *address, hsb__socket fd,
                              hsb_security *security, hsb_error *err)
{
    const hsb_options *o = &s->loop.options;
    int index = -1;
    if (s->loop.closing) {
        hsb__error_set(err, HSB_ERR_SHUTDOWN, 0, 0, "the server is closing");
        return -1;
    }
    hsb__door *door = hsb__server_new_door(s, security, err);
    if (!door)
        return -1;
    hsb__listener *l = &door->listener;
    l->v6_only = o->v6_only;
    l->shared = o->shared;
    l->proxied = o->proxy_protocol;
    l->demand = !security ? HSB__DEMAND_NOTHING :
                o->require_client_certificate ? HSB__DEMAND_CERTIFICATE :
                o->request_client_certificate ? HSB__DEMAND_REQUEST : HSB__DEMAND_TLS;
    bool open = address ? hsb__listener_open(l, address, o->backlog, err)
                        : hsb__listener_adopt(l, fd, err);
    if (open) {
        index = hsb__server_add_door(s, door, security, err);
        if (index < 0) {
            if (!address)
                l->watch.fd = HSB__NO_SOCKET;           /* still the caller's                     */
            hsb__listener_close(l);
        }
    }
    if (index < 0)
        hsb__memory_free(&s->loop.memory, door, sizeof *door);
    return index;
}

/* A new certificate for a listener, or for all that speak TLS.  A plain listener stays plain,
   and what is asked of clients stays as it was, so the sharers still agree.                     */
static bool hsb__server_set_security(hsb_server *s, int listener, hsb_security *security,
                                     hsb_error *err)
{
    const hsb_options *o = &s->loop.options;
    if (!hsb__security_suits(security, o->request_client_certificate,
                             o->require_client_certificate, err))
        return false;
    for (int i = 0; i < s->door_count; i++) {
        hsb__door *door = s->doors[i];
        if (!door->security || (listener >= 0 && i != listener))
            continue;
        hsb__security_retain(security);
        hsb__security_release(door->security);
        door->security = security;
    }
    return true;
}

/* --- closing ------------------------------------------------------------------------------ */
static void hsb__server_force(hsb_server *s)
{
    for (hsb_conn *c = hsb__server_next(s, NULL); c; c = hsb__server_next(s, c)) {
        hsb__channel_record(c->channel, HSB_ERR_SHUTDOWN, "the server was closed");
        hsb__conn_end(c, true);
    }
}

static void hsb__server_shutdown_over(hsb__timer *timer)
{
    hsb__server_force(timer->owner);
}

/* Every connection is stepped, and an idle one closes in that step.                              */
static void hsb__server_begin_close(hsb_server *s)
{
    int ms = s->loop.options.timeouts.shutdown;
    if (s->loop.closing)
        return;
    s->loop.closing = true;
    for (int i = 0; i < s->door_count; i++)
        hsb__door_shut(s->doors[i]);
    for (hsb_conn *c = hsb__server_next(s, NULL); c; c = hsb__server_next(s, c)) {
        c->grace = c->phase <= HSB__HANDSHAKE;
        hsb__conn_schedule(c);
    }
    if (ms >= 0)
        hsb__timer_set(&s->loop.timers, &s->shutdown, hsb__loop_now_ms(&s->loop) + (uint64_t)ms);
}

/* --- the inbox ---------------------------------------------------------------------------- */
static int hsb__server_heed_flags(hsb_server *s)
{
    int flags = hsb__inbox_take_flags(s->loop.inbox);
    if ((flags & HSB__INBOX_WAKE) && s->loop.options.hooks.on_wake) {
        hsb__loop_enter_hook(&s->loop);
        s->loop.options.hooks.on_wake(s, s->loop.options.hooks.user);
        hsb__loop_leave_hook(&s->loop);
    }
    if (flags & (HSB__INBOX_CLOSE | HSB__INBOX_FORCE))
        hsb__server_begin_close(s);
    if (flags & HSB__INBOX_FORCE)
        hsb__server_force(s);
    return flags != 0;
}

/* --- one turn ----------------------------------------------------------------------------- */
/* What is scheduled meanwhile waits for the next turn, so that this turn ends.                   */
static int hsb__server_step_scheduled(hsb_server *s)
{
    hsb__link now, *first;
    int count = 0;
    hsb__link_move_all(&now, &s->loop.scheduled);
    for (; (first = hsb__link_first(&now)) != NULL; count++) {
        hsb__link_remove(first);
        hsb__conn_step(HSB__OWNER(hsb_conn, in_scheduled, first));
    }
    return count;
}

/* How long the poller may wait, in ms; -1: for ever.                                             */
static int hsb__server_timeout(const hsb_server *s)
{
    if (hsb__link_first(&s->loop.scheduled) || s->closed || hsb__inbox_has_flags(s->loop.inbox))
        return 0;
    uint64_t next = hsb__timers_next(&s->loop.timers);
    if (next == UINT64_MAX)
        return -1;
    uint64_t now = hsb__os_now_us() / 1000;
    if (next <= now)
        return 0;
    return next - now < INT_MAX ? (int)(next - now) : INT_MAX;
}

static void hsb__server_set_waiting(hsb_server *s, bool waiting)
{
    for (int i = 0; i < s->door_count; i++)
        if (s->doors[i]->listener.shared)
            hsb__listener_set_waiting(&s->doors[i]->listener, waiting);
}

/* Timers judge clients, so before one fires, everything is read that the kernel has received.
   The batch may have been one of many, and the process may have been stopped since it was
   collected.  The bound lets a server that is always busy run its timers.                        */
static int hsb__server_catch_up(hsb_server *s)
{
    int count = 0, rounds = 4 + 2 * (s->total / HSB__POLLER_BATCH);     /* a kqueue tells twice   */
    for (bool all = false; !all && rounds > 0; rounds--) {
        all = hsb__poller_collect(&s->loop.poller, 0);
        count += hsb__poller_dispatch(&s->loop.poller);
    }
    return count;
}

static int hsb__server_turn(hsb_server *s, int timeout_ms)
{
    if (s->closed)
        return -1;
    int own = hsb__server_timeout(s);
    int wait = own < 0 || (timeout_ms >= 0 && timeout_ms < own) ? timeout_ms : own;
    s->loop.depth++;
    hsb__server_set_waiting(s, true);
    hsb__poller_collect(&s->loop.poller, wait);
    hsb__server_set_waiting(s, false);
    hsb__loop_tick(&s->loop);
    uint64_t now = hsb__loop_now_ms(&s->loop);  /* time in hooks is not the client's delay        */
    int count = hsb__server_heed_flags(s);      /* a close comes before new connections           */
    count += hsb__poller_dispatch(&s->loop.poller);
    bool due = hsb__timers_next(&s->loop.timers) <= now;
    if (due)
        count += hsb__server_catch_up(s);
    hsb__timers_advance(&s->loop.timers, now);
    int left = hsb__inbox_run(s->loop.inbox, s, &s->loop.timers);
    if (due || left)
        hsb__loop_tick(&s->loop);               /* the application's functions may block, too     */
    count += left;
    count += hsb__server_step_scheduled(s);
    s->loop.depth--;
    s->loop.date_fresh = false;
    s->closed = s->loop.closing && !s->total;
    return count;
}

/* --- a server's life ---------------------------------------------------------------------- */
/* limits.connections, and what the descriptors allow.                                            */
static void hsb__server_set_limits(hsb_server *s)
{
    int most = s->loop.options.limits.connections, fds = hsb__os_descriptor_limit();
    s->most = most < 0 ? INT_MAX : most;
    if (fds < INT_MAX)
        fds = fds > HSB__SPARE_FDS ? fds - HSB__SPARE_FDS : 1;
    s->loop.descriptors = fds;
}

static void hsb__server_release(hsb_server *s)
{
    hsb__memory memory = s->loop.memory;
    for (int i = 0; i < s->door_count; i++) {
        hsb__door_shut(s->doors[i]);
        if (s->doors[i]->security)
            hsb__security_release(s->doors[i]->security);
        hsb__memory_free(&s->loop.memory, s->doors[i], sizeof **s->doors);
    }
    hsb__memory_free(&s->loop.memory, s->doors, (size_t)s->door_space * sizeof *s->doors);
    hsb__timer_cancel(&s->shutdown);
    if (s->loop.inbox)
        hsb__inbox_release(s->loop.inbox);
    hsb__poller_close(&s->loop.poller);
    hsb__tls_pool_close(&s->loop.tls);
    hsb__pool_close(&s->loop.pool);
    hsb__peers_close(&s->peers);
    hsb__memory_free_secret(&s->loop.memory, s->loop.stage, HSB__STAGE);
    hsb__memory_free(&s->loop.memory, s->header, s->header ? strlen(s->header) + 1 : 0);
    hsb__memory_free(&memory, s, sizeof *s);
}

static bool hsb__server_copy_header(hsb_server *s, const char *value, hsb_error *err)
{
    hsb_str text = hsb__text_of(value);
    if (!value)
        return true;
    if (!hsb__text_is_field_value(text))
        return hsb__error_set(err, HSB_ERR_MISUSE, 0, 0,
                              "options.server_header: not a field value");
    s->header = hsb__memory_copy_text(&s->loop.memory, text.ptr, text.len);
    s->loop.options.server_header = s->header;
    return s->header || hsb__error_memory(err);
}

static bool hsb__server_set_up(hsb_server *s, const hsb_options *options, hsb_error *err)
{
    hsb__loop *loop = &s->loop;
    loop->options = hsb__options_resolve(options);
    loop->options.server_header = NULL;             /* until it is copied                         */
    loop->pool.memory = &loop->memory;
    loop->tls.memory = loop->tls.engines.memory = &loop->memory;
    loop->tls.blocks = &loop->pool;
    loop->server = s;
    loop->on_named = hsb__server_named;
    hsb__loop_tick(loop);
    loop->timers.now = hsb__loop_now_ms(loop);
    hsb__server_set_limits(s);
    s->shutdown.fire = hsb__server_shutdown_over;
    s->shutdown.owner = s;
    if (!hsb__poller_open(&loop->poller, &loop->memory, err))
        return false;
    if (!hsb__server_copy_header(s, options ? options->server_header : NULL, err))
        return false;
    loop->stage = hsb__memory_alloc(&loop->memory, HSB__STAGE);
    if (!loop->stage)
        return hsb__error_memory(err);
    if (loop->options.limits.per_address >= 0 && !hsb__peers_open(&s->peers, &loop->memory))
        return hsb__error_set(err, HSB_ERR_MEMORY, 0, 0,
                              "out of memory or randomness for limits.per_address");
    loop->inbox = hsb__inbox_new(&loop->options.allocator, err);
    return loop->inbox && hsb__inbox_watch(loop->inbox, &loop->poller, err);
}

static hsb_server *hsb__server_new(const hsb_options *options, hsb_error *err)
{
    hsb__memory memory;
    memset(&memory, 0, sizeof memory);
    if (options)
        memory.user = options->allocator;
    hsb_server *s = hsb__memory_zeroed(&memory, sizeof *s);
    if (!s) {
        hsb__error_memory(err);
        return NULL;
    }
    s->loop.memory = memory;
    if (hsb__server_set_up(s, options, err))
        return s;
    hsb__server_release(s);
    return NULL;
}

static hsb_server *hsb__server_bind(const hsb_address *address, hsb__socket fd,
                                    hsb_security *security, const hsb_options *options,
                                    hsb_error *err)
{
    hsb_server *s = hsb__server_new(options, err);
    if (s && hsb__server_listen(s, address, fd, security, err) < 0) {
        hsb__server_release(s);
        s = NULL;
    }
    return s;
}

/* Cuts all connections and calls their hooks; then runs what is in the inbox.                    */
static void hsb__server_free(hsb_server *s)
{
    hsb__loop *loop = &s->loop;
    loop->depth++;
    hsb__loop_tick(loop);
    hsb__server_begin_close(s);
    while (s->total) {
        hsb__server_force(s);
        hsb__server_step_scheduled(s);
    }
    hsb__inbox_run_last(loop->inbox, s, &loop->timers);
    loop->depth--;
    hsb__server_release(s);
}

/* --- counts ------------------------------------------------------------------------------- */
static hsb_connections hsb__server_connections(const hsb_server *s)
{
    hsb_connections n;
    memset(&n, 0, sizeof n);
    for (const hsb_conn *c = hsb__server_next(s, NULL); c; c = hsb__server_next(s, c)) {
        n.total++;
        n.handshaking += c->phase <= HSB__HANDSHAKE;
        n.idle += c->phase == HSB__HTTP && c->request.receiving == HSB__WAIT;
        n.active += c->phase == HSB__HTTP && c->request.receiving != HSB__WAIT;
        n.detached += c->phase == HSB__STREAM;
        n.closing += c->phase >= HSB__CLOSING;
    }
    return n;
}

static size_t hsb__server_memory(const hsb_server *s)
{
    return hsb__atomic_get(&s->loop.memory.used) + hsb__atomic_get(&s->loop.inbox->memory.used);
}

/* ===== >>public ==================================================================
   Purpose  the hsb_ functions of all that is above: check the arguments, call one private
            function.  A section below ends with its own
   Uses     everything
   Names    hsb_*, hsb__public_*
   Tests    tests/live, tests/live/misuse.h for what is promised of misuse           */

/* Misuse is a bug of the caller.  HSB_ASSERT gets a text that names the call and says what
   was wrong.  It is a literal, so that an assertion that prints its condition shows it.
   With assertions off the same text goes to report, and the call does nothing.           */
#define HSB__MISUSE(report, to, text) \
    do { \
        HSB_ASSERT(0 && (text)); \
        report(to, text); \
    } while (0)

/* For a call that fills an hsb_error.                                                    */
static void hsb__public_refuse(hsb_error *err, const char *text)
{
    hsb__error_set(err, HSB_ERR_MISUSE, 0, 0, "%s", text);
}

/* For all others: on_error hears of it.                                                  */
static void hsb__public_misuse(hsb__loop *loop, hsb_conn *conn, const char *text)
{
    hsb_error err;
    hsb__error_set(&err, HSB_ERR_MISUSE, 0, 0, "%s", text);
    hsb__loop_error(loop, conn, &err);
}

static void hsb__public_tell_server(hsb_server *server, const char *text)
{
    hsb__public_misuse(&server->loop, NULL, text);
}

static void hsb__public_tell_request(const hsb_request *req, const char *text)
{
    if (req)
        hsb__public_misuse(req->channel.loop, req->channel.conn, text);
}

static void hsb__public_tell_stream(const hsb_stream *stream, const char *text)
{
    if (stream)
        hsb__public_misuse(stream->channel.loop, stream->channel.conn, text);
}

/* The peer or this server ended the request, so the caller could not know: a call that
   comes after that does nothing, and is no misuse.  NULL was asserted before.            */
static bool hsb__public_is_late(const hsb_request *req)
{
    return !req || hsb__response_is_too_late(req);
}

static bool hsb__public_may_begin(const hsb_request *req)
{
    return !hsb__public_is_late(req) && hsb__response_may_begin(req);
}

static bool hsb__public_may_write(const hsb_request *req)
{
    return !hsb__public_is_late(req) && req->opened && req->sending == HSB__OPEN && !req->detached;
}

#if !defined(HTTPSBIND_STATIC) && defined(__GNUC__)
const char hsb_version_0_2_0 = 1;
#endif

/* --- text and errors ---------------------------------------------------------------------- */
HSB_API hsb_str hsb_text(const char *nul_terminated)
{
    return hsb__text_of(nul_terminated);
}

HSB_API bool hsb_equal(hsb_str a, const char *b)
{
    HSB_ASSERT(b && "hsb_equal: b is NULL");
    return b && hsb__text_is(a, b);
}

HSB_API bool hsb_equal_nocase(hsb_str a, const char *b)
{
    HSB_ASSERT(b && "hsb_equal_nocase: b is NULL");
    return b && hsb__text_is_nocase(a, b);
}

HSB_API const char *hsb_status_text(hsb_status status)
{
    return hsb__error_status_text(status);
}

/* --- addresses ------------------------------------------------------------------------------ */
static hsb_address hsb__public_no_address(void)
{
    hsb_address none;
    memset(&none, 0, sizeof none);
    return none;
}

HSB_API bool hsb_address_parse(hsb_address *out, const char *numeric)
{
    HSB_ASSERT(out && numeric && "hsb_address_parse: out or numeric is NULL");
    return out && numeric && hsb__address_parse(out, numeric);
}

HSB_API const char *hsb_address_text(const hsb_address *a, char buf[HSB_ADDRESS_TEXT_MAX])
{
    HSB_ASSERT(a && buf && "hsb_address_text: a or buf is NULL");
    return a && buf ? hsb__address_text(a, buf) : NULL;
}

HSB_API int hsb_lookup(const char *host, hsb_family family, hsb_address *out, int max,
                       hsb_error *err)
{
    hsb__error_clear(err);
    if (host && out && max > 0 && family != HSB_UNIX)
        return hsb__resolver_lookup(host, family, out, max, err);
    HSB__MISUSE(hsb__public_refuse, err,
                "hsb_lookup: host or out is NULL, max is below 1, or family is HSB_UNIX");
    return 0;
}

/* --- security --------------------------------------------------------------------------------- */
HSB_API hsb_pem hsb_pem_file(const char *path)
{
    hsb_pem pem;
    memset(&pem, 0, sizeof pem);
    pem.path = path;
    return pem;
}

HSB_API hsb_pem hsb_pem_text(const char *nul_terminated)
{
    hsb_pem pem;
    memset(&pem, 0, sizeof pem);
    pem.text = hsb__text_of(nul_terminated);
    return pem;
}

HSB_API hsb_security *hsb_security_new(const hsb_security_desc *desc, hsb_error *err)
{
    hsb__error_clear(err);
    if (!desc)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_security_new: desc is NULL");
    else if (!desc->identities && desc->identity_count > 0)
        HSB__MISUSE(hsb__public_refuse, err,
                    "hsb_security_new: identity_count without identities");
    else
        return hsb__security_new(desc, err);
    return NULL;
}

HSB_API void hsb_security_free(hsb_security *security)
{
    if (security)
        hsb__security_release(security);
}

HSB_API const uint8_t *hsb_security_sha256(const hsb_security *security)
{
    HSB_ASSERT(security && "hsb_security_sha256: security is NULL");
    return security ? security->sha256 : NULL;
}

HSB_API hsb_str hsb_security_pem(const hsb_security *security)
{
    HSB_ASSERT(security && "hsb_security_pem: security is NULL");
    return security ? hsb__text_make(security->pem, security->pem_len) : hsb__text_absent();
}

/* --- binding ------------------------------------------------------------------------------ */
HSB_API hsb_server *hsb_bind_secure(const char *host, int port, hsb_security *security,
                                    const hsb_options *options, hsb_error *err)
{
    hsb_address a;
    hsb__error_clear(err);
    if (!host || !security)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_bind_secure: host or security is NULL");
    else if (hsb__resolver_bind_address(&a, host, port, err))
        return hsb__server_bind(&a, -1, security, options, err);
    return NULL;
}

HSB_API hsb_server *hsb_bind_secure_at(const hsb_address *address, hsb_security *security,
                                       const hsb_options *options, hsb_error *err)
{
    hsb__error_clear(err);
    if (address && security)
        return hsb__server_bind(address, -1, security, options, err);
    HSB__MISUSE(hsb__public_refuse, err, "hsb_bind_secure_at: address or security is NULL");
    return NULL;
}

HSB_API hsb_server *hsb_bind_secure_fd(int fd, hsb_security *security, const hsb_options *options,
                                       hsb_error *err)
{
    hsb__error_clear(err);
    if (security)
        return hsb__server_bind(NULL, fd, security, options, err);
    HSB__MISUSE(hsb__public_refuse, err, "hsb_bind_secure_fd: security is NULL");
    return NULL;
}

HSB_API hsb_server *hsb_bind(const char *host, int port, const hsb_options *options, hsb_error *err)
{
    hsb_address a;
    hsb__error_clear(err);
    if (!host)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_bind: host is NULL");
    else if (hsb__resolver_bind_address(&a, host, port, err))
        return hsb__server_bind(&a, -1, NULL, options, err);
    return NULL;
}

HSB_API int hsb_server_listen(hsb_server *server, const char *host, int port,
                              hsb_security *security_or_null, hsb_error *err)
{
    hsb_address a;
    hsb__error_clear(err);
    if (!server || !host)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_server_listen: server or host is NULL");
    else if (hsb__resolver_bind_address(&a, host, port, err))
        return hsb__server_listen(server, &a, -1, security_or_null, err);
    return -1;
}

HSB_API int hsb_server_listen_at(hsb_server *server, const hsb_address *address,
                                 hsb_security *security_or_null, hsb_error *err)
{
    hsb__error_clear(err);
    if (server && address)
        return hsb__server_listen(server, address, -1, security_or_null, err);
    HSB__MISUSE(hsb__public_refuse, err, "hsb_server_listen_at: server or address is NULL");
    return -1;
}

HSB_API int hsb_server_listen_fd(hsb_server *server, int fd, hsb_security *security_or_null,
                                 hsb_error *err)
{
    hsb__error_clear(err);
    if (server)
        return hsb__server_listen(server, NULL, fd, security_or_null, err);
    HSB__MISUSE(hsb__public_refuse, err, "hsb_server_listen_fd: server is NULL");
    return -1;
}

/* --- server ------------------------------------------------------------------------------- */
HSB_API int hsb_server_poll(hsb_server *server, int timeout_ms)
{
    HSB_ASSERT(server && "hsb_server_poll: server is NULL");
    if (!server)
        return -1;
    if (!server->loop.depth)
        return hsb__server_turn(server, timeout_ms);
    HSB__MISUSE(hsb__public_tell_server, server, "hsb_server_poll: called from a hook");
    return 0;
}

HSB_API bool hsb_server_run(hsb_server *server, hsb_error *err)
{
    hsb__error_clear(err);
    if (!server) {
        HSB__MISUSE(hsb__public_refuse, err, "hsb_server_run: server is NULL");
        return false;
    }
    if (server->loop.depth) {
        HSB__MISUSE(hsb__public_refuse, err, "hsb_server_run: called from a hook");
        return false;
    }
    while (hsb__server_turn(server, -1) >= 0)
        ;
    return true;
}

HSB_API int hsb_server_fd(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_fd: server is NULL");
    return server ? hsb__poller_fd(&server->loop.poller) : -1;
}

HSB_API int hsb_server_timeout(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_timeout: server is NULL");
    return server ? hsb__server_timeout(server) : -1;
}

HSB_API void hsb_server_close(hsb_server *server, bool force)
{
    HSB_ASSERT(server && "hsb_server_close: server is NULL");
    if (server)
        hsb__inbox_flag(server->loop.inbox,
                        force ? HSB__INBOX_FORCE | HSB__INBOX_CLOSE : HSB__INBOX_CLOSE);
}

HSB_API void hsb_server_wake(hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_wake: server is NULL");
    if (server)
        hsb__inbox_flag(server->loop.inbox, HSB__INBOX_WAKE);
}

HSB_API void hsb_server_free(hsb_server *server)
{
    if (server && server->loop.depth)
        HSB__MISUSE(hsb__public_tell_server, server, "hsb_server_free: called from a hook");
    else if (server)
        hsb__server_free(server);
}

HSB_API void hsb_server_set_user(hsb_server *server, void *user)
{
    HSB_ASSERT(server && "hsb_server_set_user: server is NULL");
    if (server)
        server->user = user;
}

HSB_API void *hsb_server_user(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_user: server is NULL");
    return server ? server->user : NULL;
}

HSB_API hsb_address hsb_server_address(const hsb_server *server, int listener)
{
    HSB_ASSERT(server && "hsb_server_address: server is NULL");
    bool known = server && listener >= 0 && listener < server->door_count;
    return known ? server->doors[listener]->listener.address : hsb__public_no_address();
}

HSB_API int hsb_server_port(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_port: server is NULL");
    return server ? server->doors[0]->listener.address.port : 0;
}

HSB_API hsb_options hsb_server_options(const hsb_server *server)
{
    hsb_options none;
    memset(&none, 0, sizeof none);
    HSB_ASSERT(server && "hsb_server_options: server is NULL");
    return server ? server->loop.options : none;
}

HSB_API bool hsb_server_set_security(hsb_server *server, int listener, hsb_security *security,
                                     hsb_error *err)
{
    hsb__error_clear(err);
    if (!server || !security)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_server_set_security: server or security is NULL");
    else if (listener < -1 || listener >= server->door_count)
        HSB__MISUSE(hsb__public_refuse, err, "hsb_server_set_security: no such listener");
    else
        return hsb__server_set_security(server, listener, security, err);
    return false;
}

HSB_API bool hsb_server_closing(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_closing: server is NULL");
    return server && server->loop.closing;
}

HSB_API hsb_connections hsb_server_connections(const hsb_server *server)
{
    hsb_connections none;
    memset(&none, 0, sizeof none);
    HSB_ASSERT(server && "hsb_server_connections: server is NULL");
    return server ? hsb__server_connections(server) : none;
}

HSB_API size_t hsb_server_memory(const hsb_server *server)
{
    HSB_ASSERT(server && "hsb_server_memory: server is NULL");
    return server ? hsb__server_memory(server) : 0;
}

HSB_API bool hsb_server_post(hsb_server *server, int delay_ms,
                             void (*fn)(hsb_server *, void *arg), void *arg)
{
    HSB_ASSERT(server && fn && "hsb_server_post: server or fn is NULL");
    return server && fn && hsb__inbox_post(server->loop.inbox, delay_ms, fn, arg);
}

/* --- connection --------------------------------------------------------------------------- */
HSB_API hsb_server *hsb_conn_server(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_server: conn is NULL");
    return conn ? conn->loop->server : NULL;
}

HSB_API hsb_address hsb_conn_peer(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_peer: conn is NULL");
    return conn ? conn->peer : hsb__public_no_address();
}

HSB_API hsb_address hsb_conn_local(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_local: conn is NULL");
    return conn ? hsb__conn_local(conn) : hsb__public_no_address();
}

HSB_API const hsb_tls_info *hsb_conn_tls(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_tls: conn is NULL");
    return conn && conn->tls ? hsb__tls_info_of(conn->tls) : NULL;
}

HSB_API uint64_t hsb_conn_id(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_id: conn is NULL");
    return conn ? conn->id : 0;
}

HSB_API void hsb_conn_set_user(hsb_conn *conn, void *user)
{
    HSB_ASSERT(conn && "hsb_conn_set_user: conn is NULL");
    if (conn)
        conn->user = user;
}

HSB_API void *hsb_conn_user(const hsb_conn *conn)
{
    HSB_ASSERT(conn && "hsb_conn_user: conn is NULL");
    return conn ? conn->user : NULL;
}

HSB_API void hsb_conn_close(hsb_conn *conn, bool force)
{
    HSB_ASSERT(conn && "hsb_conn_close: conn is NULL");
    if (conn)
        hsb__conn_end(conn, force);
}

/* --- request ------------------------------------------------------------------------------ */
HSB_API hsb_conn *hsb_request_conn(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_conn: req is NULL");
    return req ? req->channel.conn : NULL;
}

HSB_API hsb_str hsb_request_method(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_method: req is NULL");
    return req ? hsb__request_text(req, req->head.method) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_target(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_target: req is NULL");
    return req ? hsb__request_text(req, req->head.target) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_host(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_host: req is NULL");
    return req && req->head.has_host ? hsb__request_text(req, req->head.host) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_path(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_path: req is NULL");
    return req ? hsb__request_text(req, req->head.path) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_query(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_query: req is NULL");
    return req && req->head.has_query ? hsb__request_text(req, req->head.query)
                                      : hsb__text_absent();
}

HSB_API int hsb_request_minor_version(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_minor_version: req is NULL");
    return req ? req->head.minor : 0;
}

HSB_API hsb_str hsb_request_header(const hsb_request *req, const char *name)
{
    if (req && name)
        return hsb__request_header(req, name);
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_header: req or name is NULL");
    return hsb__text_absent();
}

HSB_API bool hsb_request_header_at(const hsb_request *req, int i, hsb_str *name, hsb_str *value)
{
    if (req && name && value)
        return hsb__request_field_at(req, false, i, name, value);
    HSB__MISUSE(hsb__public_tell_request, req,
                "hsb_request_header_at: req, name or value is NULL");
    return false;
}

HSB_API bool hsb_request_trailer_at(const hsb_request *req, int i, hsb_str *name, hsb_str *value)
{
    if (req && name && value)
        return hsb__request_field_at(req, true, i, name, value);
    HSB__MISUSE(hsb__public_tell_request, req,
                "hsb_request_trailer_at: req, name or value is NULL");
    return false;
}

HSB_API hsb_str hsb_request_cookie(const hsb_request *req, const char *name)
{
    if (req && name)
        return hsb__cookie_find(&req->head, hsb__buffer_data(&req->text), hsb__text_of(name));
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_cookie: req or name is NULL");
    return hsb__text_absent();
}

HSB_API int64_t hsb_request_content_length(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_content_length: req is NULL");
    return req ? req->head.content_length : 0;
}

HSB_API void hsb_request_stream(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_stream: req is NULL");
    if (req && hsb__request_in_head_hook(req))
        req->streamed = true;
    else if (req)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_stream: not called from on_head");
}

HSB_API hsb_str hsb_request_body(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_body: req is NULL");
    return req ? hsb__request_body(req) : hsb__text_absent();
}

HSB_API bool hsb_request_keep_alive(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_keep_alive: req is NULL");
    return req && hsb__response_keeps_alive(req);
}

HSB_API int64_t hsb_request_received(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_received: req is NULL");
    return req ? req->received : 0;
}

HSB_API int64_t hsb_request_age_us(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_age_us: req is NULL");
    return req ? (int64_t)(hsb__os_now_us() - req->began_us) : 0;
}

HSB_API void hsb_request_pause(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_pause: req is NULL");
    if (req)
        req->channel.paused = true;
}

HSB_API void hsb_request_resume(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_resume: req is NULL");
    if (req)
        hsb__request_resume(req);
}

HSB_API void hsb_request_set_user(hsb_request *req, void *user)
{
    HSB_ASSERT(req && "hsb_request_set_user: req is NULL");
    if (req)
        req->user = user;
}

HSB_API void *hsb_request_user(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_user: req is NULL");
    return req ? req->user : NULL;
}

HSB_API bool hsb_request_after(hsb_request *req, int delay_ms,
                               void (*fn)(hsb_request *, void *arg), void *arg)
{
    if (req && fn)
        return req->opened && hsb__request_after(req, delay_ms, fn, arg);
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_after: req or fn is NULL");
    return false;
}

HSB_API bool hsb_percent_decode(hsb_str in, bool form, char *buf, size_t size, size_t *len)
{
    HSB_ASSERT(buf && "hsb_percent_decode: buf is NULL");
    return hsb__percent_decode(in, form, buf, buf ? size : 0, len);
}

HSB_API bool hsb_form_next(hsb_str *rest, hsb_str *name, hsb_str *value)
{
    HSB_ASSERT(rest && name && value && "hsb_form_next: rest, name or value is NULL");
    return rest && name && value && hsb__form_next(rest, name, value);
}

/* --- response ----------------------------------------------------------------------------- */
HSB_API bool hsb_response_header(hsb_request *req, const char *name, const char *value)
{
    if (req && name && value)
        return hsb__response_header(req, name, value);
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_response_header: req, name or value is NULL");
    return false;
}

HSB_API bool hsb_response_cookie(hsb_request *req, const hsb_cookie *cookie)
{
    if (req && cookie && cookie->name)
        return hsb__response_cookie(req, cookie);
    HSB__MISUSE(hsb__public_tell_request, req,
                "hsb_response_cookie: req, cookie or its name is NULL");
    return false;
}

HSB_API void hsb_respond(hsb_request *req, int status, const char *type, hsb_str body)
{
    HSB_ASSERT(req && "hsb_respond: req is NULL");
    if (hsb__public_may_begin(req))
        hsb__response_whole(req, status, type, body);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond: this request is answered already");
}

HSB_API void hsb_respond_owned(hsb_request *req, int status, const char *type, hsb_str body,
                               void (*release)(void *arg), void *arg)
{
    HSB_ASSERT(req && "hsb_respond_owned: req is NULL");
    if (hsb__public_may_begin(req)) {
        hsb__response_owned(req, status, type, body, release, arg);
        return;
    }
    if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_owned: this request is answered already");
    if (release)
        release(arg);
}

HSB_API void hsb_respond_redirect(hsb_request *req, int status, const char *location)
{
    if (!req || !location)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond_redirect: req or location is NULL");
    else if (hsb__public_may_begin(req))
        hsb__response_redirect(req, status, location);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_redirect: this request is answered already");
}

HSB_API void hsb_respond_file(hsb_request *req, const char *path, const char *type_or_null)
{
    if (!req || !path)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond_file: req or path is NULL");
    else if (hsb__public_may_begin(req))
        hsb__files_respond(req, path, type_or_null);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_file: this request is answered already");
}

HSB_API void hsb_respond_dir(hsb_request *req, const char *root, hsb_str path)
{
    if (!req || !root)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond_dir: req or root is NULL");
    else if (hsb__public_may_begin(req))
        hsb__files_respond_dir(req, root, path);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_dir: this request is answered already");
}

HSB_API void hsb_response_begin(hsb_request *req, int status, int64_t length)
{
    HSB_ASSERT(req && "hsb_response_begin: req is NULL");
    if (hsb__public_may_begin(req))
        hsb__response_begin(req, status, length);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_response_begin: this request is answered already");
}

HSB_API hsb_flow hsb_response_write(hsb_request *req, hsb_str part)
{
    HSB_ASSERT(req && "hsb_response_write: req is NULL");
    if (hsb__public_may_write(req))
        return hsb__response_write(req, part);
    if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_response_write: not between hsb_response_begin and _end");
    return HSB_FLOW_GONE;
}

HSB_API hsb_flow hsb_response_flush(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_flush: req is NULL");
    if (hsb__public_may_write(req))
        return hsb__response_flush(req);
    if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_response_flush: not between hsb_response_begin and _end");
    return HSB_FLOW_GONE;
}

HSB_API bool hsb_response_trailer(hsb_request *req, const char *name, const char *value)
{
    if (req && name && value)
        return !req->detached && hsb__response_trailer(req, name, value);
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_response_trailer: req, name or value is NULL");
    return false;
}

HSB_API void hsb_response_end(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_end: req is NULL");
    if (hsb__public_may_write(req))
        hsb__response_end(req);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_response_end: no answer was begun, or it is ended already");
}

HSB_API void hsb_response_close(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_close: req is NULL");
    if (req)
        hsb__channel_end(&req->channel, HSB__LAST_ANSWER);
}

HSB_API void hsb_response_abort(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_abort: req is NULL");
    if (req && req->opened)
        hsb__response_fail(req, HSB_ERR_CLOSED, "the application aborted the response");
}

HSB_API int hsb_response_status(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_status: req is NULL");
    return req ? req->status : 0;
}

HSB_API int64_t hsb_response_bytes(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_response_bytes: req is NULL");
    return req ? hsb__response_bytes(req) : 0;
}

/* --- answering later ---------------------------------------------------------------------- */
static hsb_ticket hsb__public_no_ticket(void)
{
    hsb_ticket none;
    memset(&none, 0, sizeof none);
    return none;
}

/* Any thread: on_error belongs to the server's.                                          */
static bool hsb__public_settle(hsb_ticket ticket, hsb__caller *call, hsb__resume fn, bool drop,
                               void *arg)
{
    return ticket.inbox && ticket.id &&
           hsb__inbox_settle(ticket.inbox, ticket.id, call, fn, drop, arg);
}

HSB_API hsb_ticket hsb_request_defer(hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_defer: req is NULL");
    return req ? hsb__request_defer(req) : hsb__public_no_ticket();
}

HSB_API bool hsb_ticket_resume(hsb_ticket ticket, void (*fn)(hsb_request *req, void *arg),
                               void *arg)
{
    hsb__resume resume;
    HSB_ASSERT(fn && "hsb_ticket_resume: fn is NULL");
    resume.request = fn;
    return fn && hsb__public_settle(ticket, hsb__request_call, resume, false, arg);
}

HSB_API void hsb_ticket_drop(hsb_ticket ticket)
{
    hsb__resume none;
    memset(&none, 0, sizeof none);
    hsb__public_settle(ticket, hsb__request_call, none, true, NULL);
}

/* --- leaving HTTP ------------------------------------------------------------------------- */
HSB_API hsb_stream *hsb_request_detach(hsb_request *req, int status, const hsb_stream_hooks *hooks)
{
    if (!req || !hooks)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_detach: req or hooks is NULL");
    else if (hsb__public_may_begin(req))
        return hsb__request_detach(req, status, hooks);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_detach: this request is answered already");
    return NULL;
}

HSB_API hsb_conn *hsb_stream_conn(const hsb_stream *stream)
{
    HSB_ASSERT(stream && "hsb_stream_conn: stream is NULL");
    return stream ? stream->channel.conn : NULL;
}

HSB_API hsb_flow hsb_stream_write(hsb_stream *stream, hsb_str part)
{
    HSB_ASSERT(stream && "hsb_stream_write: stream is NULL");
    return stream ? hsb__stream_write(stream, part) : HSB_FLOW_GONE;
}

HSB_API hsb_flow hsb_stream_flush(hsb_stream *stream)
{
    HSB_ASSERT(stream && "hsb_stream_flush: stream is NULL");
    return stream ? hsb__stream_flush(stream) : HSB_FLOW_GONE;
}

HSB_API void hsb_stream_pause(hsb_stream *stream)
{
    HSB_ASSERT(stream && "hsb_stream_pause: stream is NULL");
    if (stream)
        hsb__stream_pause(stream);
}

HSB_API void hsb_stream_resume(hsb_stream *stream)
{
    HSB_ASSERT(stream && "hsb_stream_resume: stream is NULL");
    if (stream)
        hsb__stream_resume(stream);
}

HSB_API bool hsb_stream_after(hsb_stream *stream, int delay_ms,
                              void (*fn)(hsb_stream *, void *arg), void *arg)
{
    if (stream && fn)
        return hsb__stream_after(stream, delay_ms, fn, arg);
    HSB__MISUSE(hsb__public_tell_stream, stream, "hsb_stream_after: stream or fn is NULL");
    return false;
}

HSB_API hsb_ticket hsb_stream_ticket(hsb_stream *stream)
{
    HSB_ASSERT(stream && "hsb_stream_ticket: stream is NULL");
    return stream ? hsb__stream_ticket(stream) : hsb__public_no_ticket();
}

HSB_API bool hsb_stream_ticket_resume(hsb_ticket ticket,
                                      void (*fn)(hsb_stream *stream, void *arg), void *arg)
{
    hsb__resume resume;
    HSB_ASSERT(fn && "hsb_stream_ticket_resume: fn is NULL");
    resume.stream = fn;
    return fn && hsb__public_settle(ticket, hsb__stream_call, resume, false, arg);
}

HSB_API void hsb_stream_close(hsb_stream *stream, bool force)
{
    HSB_ASSERT(stream && "hsb_stream_close: stream is NULL");
    if (stream)
        hsb__stream_close(stream, force);
}

/* --- WebSocket ---------------------------------------------------------------------------- */
HSB_API hsb_websocket *hsb_request_websocket(hsb_request *req, const hsb_websocket_hooks *hooks)
{
    if (!req || !hooks)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_websocket: req or hooks is NULL");
    else if (hsb__public_may_begin(req))
        return hsb__websocket_open(req, hooks);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_websocket: this request is answered already");
    return NULL;
}

HSB_API hsb_stream *hsb_websocket_stream(hsb_websocket *ws)
{
    HSB_ASSERT(ws && "hsb_websocket_stream: ws is NULL");
    return ws ? hsb__websocket_stream(ws) : NULL;
}

HSB_API const char *hsb_websocket_subprotocol(const hsb_websocket *ws)
{
    HSB_ASSERT(ws && "hsb_websocket_subprotocol: ws is NULL");
    return ws ? hsb__websocket_subprotocol(ws) : NULL;
}

HSB_API void hsb_websocket_set_user(hsb_websocket *ws, void *user)
{
    HSB_ASSERT(ws && "hsb_websocket_set_user: ws is NULL");
    if (ws)
        hsb__websocket_set_user(ws, user);
}

HSB_API hsb_flow hsb_websocket_send(hsb_websocket *ws, bool text, hsb_str message)
{
    HSB_ASSERT(ws && "hsb_websocket_send: ws is NULL");
    if (!ws)
        return HSB_FLOW_GONE;
    if (!hsb__websocket_in_message(ws))
        return hsb__websocket_send(ws, text, message);
    HSB__MISUSE(hsb__public_tell_stream, hsb__websocket_stream(ws),
                "hsb_websocket_send: the last part of another message is still to be sent");
    return HSB_FLOW_GONE;
}

HSB_API hsb_flow hsb_websocket_send_part(hsb_websocket *ws, bool text, hsb_str part, bool last)
{
    HSB_ASSERT(ws && "hsb_websocket_send_part: ws is NULL");
    return ws ? hsb__websocket_send_part(ws, text, part, last) : HSB_FLOW_GONE;
}

HSB_API hsb_flow hsb_websocket_ping(hsb_websocket *ws, hsb_str payload)
{
    HSB_ASSERT(ws && "hsb_websocket_ping: ws is NULL");
    if (!ws)
        return HSB_FLOW_GONE;
    if (payload.len <= HSB__WEBSOCKET_CONTROL)
        return hsb__websocket_ping(ws, payload);
    HSB__MISUSE(hsb__public_tell_stream, hsb__websocket_stream(ws),
                "hsb_websocket_ping: the payload is longer than 125 bytes");
    return HSB_FLOW_GONE;
}

HSB_API void hsb_websocket_close(hsb_websocket *ws, int code, hsb_str reason)
{
    HSB_ASSERT(ws && "hsb_websocket_close: ws is NULL");
    if (!ws)
        return;
    if (hsb__websocket_code_is_allowed(code))
        hsb__websocket_close(ws, code, reason);
    else
        HSB__MISUSE(hsb__public_tell_stream, hsb__websocket_stream(ws),
                    "hsb_websocket_close: no such code may be sent");
}

/* ===== >>values ==================================================================
   Purpose  what a request says, decoded; its memory, and texts in it; secrets
   Uses     >>platform >>memory >>text >>buffer >>head >>request >>public
   Names    hsb__values_*, hsb_request_*, hsb_equal_secret, hsb_random, hsb_token
   Tests    tests/unit/values.c, tests/live/values.c                                  */

/* --- memory of a request ------------------------------------------------------------------ */
/* Zeroed: nothing of another request is left in it for a program to give away.             */
HSB_API void *hsb_request_alloc(hsb_request *req, size_t size)
{
    HSB_ASSERT(req && "hsb_request_alloc: req is NULL");
    void *p = req ? hsb__request_alloc(req, size) : NULL;
    return p && size ? memset(p, 0, size) : p;
}

/* For a text of len bytes, and a NUL that follows it; NULL as above.                       */
static char *hsb__values_text(hsb_request *req, size_t len)
{
    char *p = len < SIZE_MAX ? hsb__request_alloc(req, len + 1) : NULL;
    if (p)
        p[len] = '\0';
    return p;
}

/* Most texts are short and need to be formatted once only.                                */
__attribute__((format(printf, 2, 0)))
static hsb_str hsb__values_format(hsb_request *req, const char *format, va_list args)
{
    char small[256], *text;
    va_list again;
    va_copy(again, args);
    const int len = vsnprintf(small, sizeof small, format, args);
    text = len < 0 ? NULL : hsb__values_text(req, (size_t)len);
    if (text && (size_t)len < sizeof small)
        memcpy(text, small, (size_t)len);
    else if (text && vsnprintf(text, (size_t)len + 1, format, again) != len)
        text = NULL;
    va_end(again);
    return hsb__text_make(text, text ? (size_t)len : 0);
}

HSB_API hsb_str hsb_request_format(hsb_request *req, const char *format, ...)
{
    hsb_str text = hsb__text_absent();
    va_list args;
    if (!req || !format) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_format: req or format is NULL");
        return text;
    }
    va_start(args, format);
    text = hsb__values_format(req, format, args);
    va_end(args);
    return text;
}

static const char *hsb__values_reference(char c)
{
    switch (c) {
    case '&':  return "&amp;";
    case '<':  return "&lt;";
    case '>':  return "&gt;";
    case '"':  return "&quot;";
    case '\'': return "&#39;";
    default:   return NULL;
    }
}

/* RFC 3986 2.3                                                                            */
static bool hsb__values_is_unreserved(char c)
{
    return hsb__byte_is(c, HSB__BYTE_LETTER | HSB__BYTE_DIGIT) || (c && strchr("-._~", c));
}

/* Writes text with references to out, and returns how long that is; out NULL: only counts.  */
static size_t hsb__values_html(char *out, hsb_str text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char *reference = hsb__values_reference(text.ptr[i]);
        const size_t len = reference ? strlen(reference) : 1;
        if (out)
            memcpy(out + at, reference ? reference : text.ptr + i, len);
        at += len;
    }
    return at;
}

/* The same with %XX for every byte that is not unreserved.                                  */
static size_t hsb__values_percent(char *out, hsb_str text)
{
    size_t at = 0;
    for (size_t i = 0; i < text.len; i++) {
        const bool kept = hsb__values_is_unreserved(text.ptr[i]);
        if (out && kept) {
            out[at] = text.ptr[i];
        } else if (out) {
            out[at] = '%';
            hsb__text_print_hex(out + at + 1, (unsigned char)text.ptr[i], 'A');
        }
        at += kept ? 1 : 3;
    }
    return at;
}

/* The text as put writes it, in the request's memory.                                       */
static hsb_str hsb__values_written(hsb_request *req, hsb_str text, size_t (*put)(char *, hsb_str))
{
    if (!text.ptr || text.len > SIZE_MAX / 8)                   /* put makes 6 bytes of one */
        return hsb__text_absent();
    const size_t len = put(NULL, text);
    char *p = hsb__values_text(req, len);
    if (p)
        put(p, text);
    return hsb__text_make(p, p ? len : 0);
}

HSB_API hsb_str hsb_request_html(hsb_request *req, hsb_str text)
{
    HSB_ASSERT(req && "hsb_request_html: req is NULL");
    return req ? hsb__values_written(req, text, hsb__values_html) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_percent(hsb_request *req, hsb_str text)
{
    HSB_ASSERT(req && "hsb_request_percent: req is NULL");
    return req ? hsb__values_written(req, text, hsb__values_percent) : hsb__text_absent();
}

/* --- fields ------------------------------------------------------------------------------- */
/* The value of a field that may be sent once only; two of them are as none.               */
static hsb_str hsb__values_single(const hsb_request *req, const char *name)
{
    const hsb_str text = hsb__text_of(name);
    const int i = hsb__request_find(req, text, 0);
    return i < 0 || hsb__request_find(req, text, i + 1) >= 0 ? hsb__text_absent()
                                                             : hsb__request_value(req, i);
}

/* RFC 9110 8.3.1                                                                          */
static bool hsb__values_is_type(const hsb_request *req, const char *media_type)
{
    hsb_str rest = hsb__values_single(req, "Content-Type");
    const hsb_str type = hsb__text_trim(hsb__text_cut(&rest, ';'));
    return type.len && hsb__text_is_nocase(type, media_type);
}

HSB_API bool hsb_request_is_type(const hsb_request *req, const char *media_type)
{
    if (req && media_type)
        return hsb__values_is_type(req, media_type);
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_is_type: req or media_type is NULL");
    return false;
}

/* RFC 5234 B.1: CTL                                                                       */
static bool hsb__values_has_control(hsb_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7F)
            return true;
    return false;
}

/* RFC 7617 2: "Basic", spaces, base64 of user:password.                                   */
static bool hsb__values_basic(hsb_request *req, hsb_str *user, hsb_str *password)
{
    hsb_str digits = hsb__values_single(req, "Authorization");
    const hsb_str scheme = hsb__text_cut(&digits, ' ');
    while (digits.len && *digits.ptr == ' ')
        digits = hsb__text_after(digits, 1);
    if (!digits.len || !hsb__text_is_nocase(scheme, "Basic"))
        return false;
    size_t len;
    char *text = hsb__values_text(req, digits.len / 4 * 3);
    if (!text || !hsb__base64_read(digits, text, &len))
        return false;
    hsb_str rest = hsb__text_make(text, len);
    if (hsb__values_has_control(rest))
        return false;
    const hsb_str first = hsb__text_cut(&rest, ':');
    if (!rest.ptr)
        return false;
    text[first.len] = text[len] = '\0';
    *user = first;
    *password = rest;
    return true;
}

HSB_API bool hsb_request_basic_auth(hsb_request *req, hsb_str *user, hsb_str *password)
{
    if (!req || !user || !password) {
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_basic_auth: req, user or password is NULL");
        return false;
    }
    *user = *password = hsb__text_absent();
    return hsb__values_basic(req, user, password);
}

/* --- query and form ----------------------------------------------------------------------- */
/* Names are compared as they come, so that a long text of many names costs one walk.      */
static hsb_str hsb__values_find(hsb_request *req, hsb_str pairs, hsb_str wanted)
{
    hsb_str name, value;
    size_t len = 0;
    while (hsb__form_next(&pairs, &name, &value)) {
        if (!hsb__percent_is(name, true, wanted))
            continue;
        char *text = hsb__values_text(req, value.len);
        if (text && hsb__percent_decode(value, true, text, value.len + 1, &len))
            return hsb__text_make(text, len);
        break;
    }
    return hsb__text_absent();
}

HSB_API hsb_str hsb_request_query_value(hsb_request *req, const char *name)
{
    if (req && name)
        return hsb__values_find(req, hsb_request_query(req), hsb__text_of(name));
    HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_query_value: req or name is NULL");
    return hsb__text_absent();
}

/* All of it has arrived, and all of it was kept: a form that was cut off has wrong values. */
static bool hsb__values_kept_all(const hsb_request *req)
{
    const hsb__head *h = &req->head;
    return req->receiving == HSB__END && req->received == (int64_t)hsb__buffer_len(&req->kept) &&
           (h->chunked ? h->in_trailers && h->state == HSB__HEAD_FINISHED
                       : req->received == h->content_length);
}

HSB_API hsb_str hsb_request_form_value(hsb_request *req, const char *name)
{
    if (!req || !name)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_form_value: req or name is NULL");
    else if (hsb__values_kept_all(req) &&
             hsb__values_is_type(req, "application/x-www-form-urlencoded"))
        return hsb__values_find(req, hsb__request_body(req), hsb__text_of(name));
    return hsb__text_absent();
}

/* --- names of files ------------------------------------------------------------------------ */
enum { HSB__NAME_MAX = 255, HSB__NAME_EXTENSION = 32 };

static bool hsb__values_is_dot_or_space(char c)
{
    return c == '.' || c == ' ';
}

static hsb_str hsb__values_trim_end(hsb_str s)
{
    while (s.len && hsb__values_is_dot_or_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

/* What follows the last separator of either kind, without the dots and spaces at its ends. */
static hsb_str hsb__values_last_part(hsb_str s)
{
    for (size_t i = s.len; i > 0; i--)
        if (s.ptr[i - 1] == '/' || s.ptr[i - 1] == '\\') {
            s = hsb__text_after(s, i);
            break;
        }
    while (s.len && hsb__values_is_dot_or_space(*s.ptr))
        s = hsb__text_after(s, 1);
    return hsb__values_trim_end(s);
}

/* Names of devices on Windows, also with an extension, in upper and lower case.            */
static bool hsb__values_is_device(hsb_str name)
{
    static const char *const devices[] = { "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$",
                                           "CLOCK$" };
    static const char *const superscripts[] = { "\xC2\xB9", "\xC2\xB2", "\xC2\xB3" };
    const hsb_str base = hsb__values_trim_end(hsb__text_cut(&name, '.'));
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (hsb__text_is_nocase(base, devices[i]))
            return true;
    if (!hsb__text_begins_nocase(base, "COM") && !hsb__text_begins_nocase(base, "LPT"))
        return false;
    const hsb_str number = hsb__text_after(base, 3);
    for (size_t i = 0; i < sizeof superscripts / sizeof *superscripts; i++)
        if (hsb__text_is(number, superscripts[i]))
            return true;
    return number.len == 1 && hsb__byte_is(*number.ptr, HSB__BYTE_DIGIT);
}

static bool hsb__values_is_unsafe(uint32_t c)
{
    return hsb__utf8_is_hidden(c) || (c < 0x80 && strchr("<>:\"|?*/\\", (int)c));
}

/* Writes as many whole characters as there is space for, and returns their length.         */
static size_t hsb__values_clean(char *out, size_t space, hsb_str s)
{
    size_t n = 0;
    while (s.len) {
        hsb_str rest = s;
        uint32_t c;
        const bool valid = hsb__utf8_next(&rest, &c);
        const bool safe = valid && !hsb__values_is_unsafe(c);
        const size_t len = valid ? s.len - rest.len : 1, more = safe ? len : 1;
        if (n + more > space)
            break;
        memcpy(out + n, safe ? s.ptr : "_", more);
        n += more;
        s = hsb__text_after(s, len);
    }
    return n;
}

/* Writes the part to out, after an underscore or not.  If it is too long it is cut before its
   extension.                                                                              */
static hsb_str hsb__values_join(char out[HSB__NAME_MAX], hsb_str part, bool underscore)
{
    char extension[HSB__NAME_EXTENSION];
    size_t dot = part.len, n = 0;
    for (size_t i = part.len; i > 0 && part.len - i < sizeof extension && dot == part.len; i--)
        if (part.ptr[i - 1] == '.')
            dot = i - 1;
    const size_t more = hsb__values_clean(extension, sizeof extension, hsb__text_after(part, dot));
    if (underscore)
        out[n++] = '_';
    part.len = dot;
    n += hsb__values_clean(out + n, HSB__NAME_MAX - n - more, part);
    memcpy(out + n, extension, more);
    return hsb__values_trim_end(hsb__text_make(out, n + more));
}

HSB_API hsb_str hsb_request_safe_name(hsb_request *req, hsb_str file_name)
{
    char out[HSB__NAME_MAX];
    HSB_ASSERT(req && "hsb_request_safe_name: req is NULL");
    if (!req)
        return hsb__text_absent();
    hsb_str part = hsb__values_last_part(file_name);
    if (!part.len)
        part = hsb__text_of("unnamed");
    hsb_str name = hsb__values_join(out, part, false);
    if (*name.ptr == '-' || hsb__values_is_device(name))
        name = hsb__values_join(out, part, true);
    char *text = hsb__values_text(req, name.len);
    if (text)
        memcpy(text, name.ptr, name.len);
    return hsb__text_make(text, text ? name.len : 0);
}

/* --- secrets -------------------------------------------------------------------------------- */
HSB_API bool hsb_equal_secret(hsb_str a, hsb_str b)
{
    return a.ptr && b.ptr && a.len == b.len && hsb__memory_same(a.ptr, b.ptr, a.len);
}

HSB_API bool hsb_random(void *buf, size_t size)
{
    enum { MOST = 256 };                            /* of getentropy(3) at once              */
    HSB_ASSERT((buf || !size) && "hsb_random: buf is NULL");
    if (!buf && size)
        return false;
    for (size_t at = 0; at < size; at += MOST)
        if (!hsb__os_entropy((char *)buf + at, size - at < MOST ? size - at : MOST))
            return false;
    return true;
}

HSB_API const char *hsb_token(char buf[HSB_TOKEN_MAX])
{
    unsigned char bytes[16];
    char text[25];                                  /* 22 digits, and what padding would need */
    HSB_ASSERT(buf && "hsb_token: buf is NULL");
    if (!buf)
        return NULL;
    buf[0] = '\0';
    if (!hsb_random(bytes, sizeof bytes))
        return NULL;
    hsb__base64_print(text, bytes, sizeof bytes, true);
    memcpy(buf, text, HSB_TOKEN_MAX);
    hsb__memory_wipe(bytes, sizeof bytes);
    hsb__memory_wipe(text, sizeof text);
    return buf;
}

/* ===== >>forms ===================================================================
   Purpose  multipart/form-data of a request: streamed to hooks, or out of a kept body
   Uses     >>text >>multipart >>channel >>request >>response >>http1 >>public
   Names    hsb__forms_*, hsb__form, hsb_request_multipart, hsb_request_next_part
   Tests    tests/live/forms.c, tests/wire/rfc7578-forms.txt, tests/check/forms.sh

   The core knows of this section only through req->reader, which hsb_request_multipart sets.
   So a program that never calls it does not contain >>multipart.                          */

enum { HSB__FORMS_PARTS = 100, HSB__FORMS_HEAD = 8192 };     /* the defaults             */

/* In the request's memory, and followed there by the space for a part's head.             */
typedef struct hsb__form {
    hsb__multipart      machine;
    hsb_multipart_hooks hooks;
} hsb__form;

/* The application's own answer, if one follows, comes too late and is no misuse.          */
static void hsb__forms_answer(hsb_request *req, int status)
{
    if (!hsb__response_may_begin(req))
        return;
    req->refused = true;
    hsb__response_plain_status(req, status);
}

/* Absent: it is answered, with 415 (RFC 9110 15.5.16) or 400.                             */
static hsb_str hsb__forms_boundary(hsb_request *req)
{
    const hsb_str name = hsb__text_of("Content-Type");
    const int i = hsb__request_find(req, name, 0);
    hsb_str parameters, boundary = hsb__text_absent();
    if (i < 0 || !hsb__multipart_is_type(hsb__request_value(req, i), &parameters)) {
        hsb__forms_answer(req, 415);
        return boundary;
    }
    if (hsb__request_find(req, name, i + 1) < 0)        /* else: which one do others read? */
        boundary = hsb__multipart_boundary(parameters);
    if (!boundary.ptr)
        hsb__http1_refuse(req, 400, "multipart/form-data without one valid boundary");
    return boundary;
}

/* --- streamed --------------------------------------------------------------------------- */
static void hsb__forms_tell(hsb_request *req, hsb__form *form, hsb__multipart_event event,
                            hsb_str data)
{
    const hsb_multipart_hooks *hooks = &form->hooks;
    if (event == HSB__MULTIPART_PART && hooks->on_part)
        hooks->on_part(req, &form->machine.part, hooks->user);
    else if (event == HSB__MULTIPART_DATA && hooks->on_data)
        hooks->on_data(req, data, hooks->user);
    else if (event == HSB__MULTIPART_END && hooks->on_end)
        hooks->on_end(req, hooks->user);
    else if (event == HSB__MULTIPART_BAD)
        hsb__http1_refuse(req, form->machine.status, form->machine.reason);
}

/* A hook may have paused, answered or closed.                                             */
static bool hsb__forms_goes_on(const hsb_request *req)
{
    return hsb__http1_wants_body(req) && hsb__http1_wants_input(req) &&
           req->channel.ending != HSB__ENDS_NOW;
}

/* This is req->reader.                                                                    */
static size_t hsb__forms_read(hsb_request *req, hsb_str bytes)
{
    hsb__form *form = req->reading;
    size_t used = 0;
    if (!bytes.ptr && !hsb__multipart_end(&form->machine))
        hsb__http1_refuse(req, form->machine.status, form->machine.reason);
    while (used < bytes.len && hsb__forms_goes_on(req)) {
        size_t n;
        hsb_str data = hsb__text_absent();
        hsb__multipart_event event =
            hsb__multipart_read(&form->machine, bytes.ptr + used, bytes.len - used, &n, &data);
        used += n;
        hsb__forms_tell(req, form, event, data);
    }
    return used;
}

static bool hsb__forms_start(hsb_request *req, const hsb_multipart_hooks *hooks)
{
    const hsb_str boundary = hsb__forms_boundary(req);
    const size_t space = hooks->head_bytes > 0 ? (size_t)hooks->head_bytes : HSB__FORMS_HEAD;
    if (!boundary.ptr)
        return false;
    hsb__form *form = hsb__request_alloc(req, sizeof *form + space);
    if (!form) {
        hsb__forms_answer(req, 500);
        return false;
    }
    form->hooks = *hooks;
    hsb__multipart_start(&form->machine, boundary, (char *)(form + 1), space,
                         hooks->parts ? hooks->parts : HSB__FORMS_PARTS);
    req->streamed = true;
    req->reading = form;
    req->reader = hsb__forms_read;
    return true;
}

HSB_API bool hsb_request_multipart(hsb_request *req, const hsb_multipart_hooks *hooks)
{
    if (!req || !hooks)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_multipart: req or hooks is NULL");
    else if (hsb__public_is_late(req))
        return false;
    else if (!hsb__request_in_head_hook(req) || req->sending == HSB__LAST)
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_multipart: not called from on_head, or after the answer");
    else if (req->reader)
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_multipart: called twice for this request");
    else
        return hsb__forms_start(req, hooks);
    return false;
}

/* --- kept ------------------------------------------------------------------------------- */
/* A body is read to its end before its first part is given away, so that an application does
   not act on the first half of a malformed one.                                           */
static bool hsb__forms_check(hsb_request *req, hsb_str boundary, hsb_str body)
{
    char head[HSB__FORMS_HEAD];
    hsb__multipart m;
    size_t at = 0, used;
    hsb_str data;
    hsb__multipart_start(&m, boundary, head, sizeof head, HSB__FORMS_PARTS);
    while (at < body.len && hsb__multipart_read(&m, body.ptr + at, body.len - at, &used, &data) !=
                                HSB__MULTIPART_BAD)
        at += used;
    if (hsb__multipart_end(&m))
        return true;
    hsb__http1_refuse(req, m.status, m.reason);
    return false;
}

/* The same text at *space, which moves on.                                                */
static hsb_str hsb__forms_copy(char **space, hsb_str s)
{
    if (!s.ptr)
        return s;
    char *copy = *space;
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    *space += s.len;
    return hsb__text_make(copy, s.len);
}

/* The part's texts, where they stay until the request is over.                            */
static bool hsb__forms_keep(hsb_request *req, const hsb_part *found, hsb_part *part)
{
    char *space = hsb__request_alloc(req, found->name.len + found->file_name.len +
                                              found->type.len);
    if (!space) {
        hsb__forms_answer(req, 500);
        return false;
    }
    part->name = hsb__forms_copy(&space, found->name);
    part->file_name = hsb__forms_copy(&space, found->file_name);
    part->type = hsb__forms_copy(&space, found->type);
    return true;
}

/* Of a checked body: *rest begins with a boundary, and so it does afterwards.              */
static bool hsb__forms_next(hsb_request *req, hsb_str boundary, hsb_str *rest, hsb_part *part,
                            hsb_str *bytes)
{
    char head[HSB__FORMS_HEAD];
    hsb__multipart m;
    hsb__multipart_event event = HSB__MULTIPART_MORE;
    size_t at = 0, used, from = 0, len = 0;
    hsb_str data;
    bool kept = false;
    hsb__multipart_start(&m, boundary, head, sizeof head, HSB__FORMS_PARTS);
    while (at < rest->len && event != HSB__MULTIPART_END && event != HSB__MULTIPART_BAD) {
        event = hsb__multipart_read(&m, rest->ptr + at, rest->len - at, &used, &data);
        at += used;
        if (event == HSB__MULTIPART_PART) {
            from = at;
            kept = hsb__forms_keep(req, &m.part, part);
        } else if (event == HSB__MULTIPART_DATA) {
            len += data.len;
        }
    }
    *bytes = hsb__text_make(rest->ptr + from, len);
    at = event == HSB__MULTIPART_END ? from + len : rest->len;
    *rest = hsb__text_after(*rest, at);
    if (rest->len && *rest->ptr == '\r')            /* CR LF belongs to the boundary: see the */
        *rest = hsb__text_after(*rest, 2);          /* other case in hsb__multipart_head_done */
    return kept;
}

HSB_API bool hsb_request_next_part(hsb_request *req, hsb_str *rest, hsb_part *part, hsb_str *bytes)
{
    if (!req || !rest || !part || !bytes) {
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_next_part: req, rest, part or bytes is NULL");
        return false;
    }
    if (hsb__public_is_late(req))
        return false;
    const hsb_str body = hsb__request_body(req);
    if (!req->opened || req->streamed || req->receiving != HSB__END ||
        (rest->ptr && rest->ptr + rest->len != body.ptr + body.len)) {
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_next_part: no kept body, or not its rest");
        return false;
    }
    const hsb_str boundary = hsb__forms_boundary(req);
    if (!boundary.ptr || (!rest->ptr && !hsb__forms_check(req, boundary, body)))
        return false;
    if (!rest->ptr)
        *rest = body;
    return hsb__forms_next(req, boundary, rest, part, bytes);
}

/* ===== >>route ===================================================================
   Purpose  a table of methods and paths: the handler for a request, what its path says
   Uses     >>text >>buffer >>head >>request >>response >>public
   Names    hsb_request_route, hsb_request_param, hsb_request_pattern, hsb__route_*
   Tests    tests/unit/route.c, tests/live/routes.c, tests/wire/routes.txt           */

/* --- patterns and paths ---------------------------------------------------------------- */
/* The next byte of *at, decoded.  An encoded slash is not the slash between two segments, so it
   gets a number of its own.  Every other reserved character is the same with and without its
   encoding, because none has a meaning in a path (RFC 3986 2.2, last paragraph).         */
enum { HSB__ROUTE_SLASH = 256 };
static int hsb__route_byte(const char **at, const char *end)
{
    const int plain = (unsigned char)**at;
    const hsb_str rest = hsb__text_make(*at, (size_t)(end - *at));
    const int byte = plain == '%' ? hsb__percent_byte(rest, 0) : -1;
    *at += byte < 0 ? 1 : 3;
    return byte == '/' ? HSB__ROUTE_SLASH : byte < 0 ? plain : byte;
}

/* Where the segment that begins there ends.                                              */
static const char *hsb__route_end(const char *pattern)
{
    while (*pattern && *pattern != '/')
        pattern++;
    return pattern;
}

/* A segment without its mark.                                                            */
static hsb_str hsb__route_name(const char *segment, const char *end)
{
    return hsb__text_make(segment + 1, (size_t)(end - segment - 1));
}

static const char *hsb__route_path_end(const char *at, const char *end)
{
    while (at < end && *at != '/')
        at++;
    return at;
}

/* The same text, where at least one of them has a '%'.                                   */
static bool hsb__route_same_decoded(const char *pattern, const char *at, const char *end)
{
    const char *pattern_end = hsb__route_end(pattern);
    while (pattern < pattern_end && at < end)
        if (hsb__route_byte(&pattern, pattern_end) != hsb__route_byte(&at, end))
            return false;
    return pattern == pattern_end && at == end;
}

/* Is the segment of the pattern that begins at *pattern the same text as that of the path at
   *at?  If so, both move to its end.  Most rows are decided here, by their first bytes.  */
static bool hsb__route_same(const char **pattern, const char **at, const char *end)
{
    const char *p = *pattern, *q = *at;
    while (q < end && *p == *q && *q != '/' && *q != '%') {
        p++;
        q++;
    }
    const bool ended = (q == end || *q == '/') && (!*p || *p == '/');
    if (!ended && *p != '%' && (q == end || *q != '%'))
        return false;
    *pattern = ended ? p : hsb__route_end(p);
    *at = ended ? q : hsb__route_path_end(q, end);
    return ended || hsb__route_same_decoded(p, q, *at);
}

/* Is the whole path what the pattern describes?  What `name` stands for goes to *value, not
   decoded.  For a pattern that is malformed the answer may be true as well: see
   hsb__route_is_pattern.                                                                */
static bool hsb__route_matches(const char *pattern, hsb_str path, hsb_str name, hsb_str *value)
{
    const char *at = path.ptr, *end = path.ptr + path.len;
    if (*pattern != '/')
        return hsb__text_is(path, pattern);             /* OPTIONS *                      */
    while (*pattern && at < end && *at == '/') {
        const char *segment = ++pattern, *part = ++at;
        const char mark = *segment;
        if (mark != ':' && mark != '*') {
            if (!hsb__route_same(&pattern, &at, end))
                return false;
            continue;
        }
        pattern = hsb__route_end(segment);
        at = mark == '*' ? end : hsb__route_path_end(part, end);
        if (mark == ':' && at == part)
            return false;
        if (name.len && hsb__text_equal(hsb__route_name(segment, pattern), name))
            *value = hsb__text_make(part, (size_t)(at - part));
        if (mark == '*')
            return true;
    }
    return !*pattern && at == end;
}

/* False for most rows of a table: their first segment begins with another byte.           */
static bool hsb__route_may_match(const char *pattern, hsb_str path)
{
    const char own = pattern[0] ? pattern[1] : '\0', its = path.len > 1 ? path.ptr[1] : '\0';
    return own == its || own == ':' || own == '*' || own == '%' || its == '%';
}

/* The next name of a pattern whose next segment begins at *at; absent: none.             */
static hsb_str hsb__route_next_name(const char **at)
{
    while (**at) {
        const char *segment = *at + 1;
        *at = hsb__route_end(segment);
        if (*segment == ':' || *segment == '*')
            return hsb__route_name(segment, *at);
    }
    return hsb__text_absent();
}

static bool hsb__route_is_pattern(const char *pattern)
{
    const char *at = pattern, *later;
    hsb_str name, other;
    if (*pattern != '/')
        return strcmp(pattern, "*") == 0;
    while ((name = hsb__route_next_name(&at)).ptr) {
        if (name.len == 0 || (name.ptr[-1] == '*' && *at))
            return false;
        later = at;
        while ((other = hsb__route_next_name(&later)).ptr)
            if (hsb__text_equal(name, other))
                return false;
    }
    return true;
}

/* "." or "..", encoded or not                                                            */
static bool hsb__route_is_dots(hsb_str segment)
{
    const char *at = segment.ptr, *end = segment.ptr + segment.len;
    int dots = 0;
    for (; at < end; dots++)
        if (hsb__route_byte(&at, end) != '.')
            return false;
    return dots == 1 || dots == 2;
}

/* A handler should not meet a text that ends early in C, or a name that leads out of a folder.
   Clients remove dot segments before they send a path (RFC 3986 5.2.4).  CONNECT has no path.  */
static bool hsb__route_is_path(hsb_str path)
{
    hsb_str rest = path;
    if (path.len == 0)
        return false;
    if (!memchr(path.ptr, '%', path.len) && !memchr(path.ptr, '.', path.len))
        return true;
    while (rest.ptr)
        if (hsb__route_is_dots(hsb__text_cut(&rest, '/')))
            return false;
    for (rest = path; hsb__text_cut(&rest, '%').len < path.len && rest.ptr;)
        if (rest.len >= 2 && rest.ptr[0] == '0' && rest.ptr[1] == '0')
            return false;
    return true;
}

/* --- the table ------------------------------------------------------------------------- */
static bool hsb__route_takes(const hsb_route *row, hsb_str method)
{
    return !row->method || hsb__text_is(method, row->method) ||
           (hsb__text_is(method, "HEAD") && strcmp(row->method, "GET") == 0);
}

static bool hsb__route_is_row(const hsb_route *row)
{
    return row->handler && hsb__route_is_pattern(row->pattern) &&
           (!row->method || hsb__text_is_token(hsb__text_of(row->method)));
}

/* The first row that matches; NULL: none.  *other becomes the first one that matches but for
   the method.  A row is judged only after its pattern has matched: to judge all of them for
   each request would cost more than to find one.                                         */
static const hsb_route *hsb__route_find(hsb_request *req, const hsb_route *routes, hsb_str path,
                                        const hsb_route **other)
{
    const hsb_str method = hsb__request_text(req, req->head.method);
    for (const hsb_route *row = routes; row->pattern; row++) {
        if (!hsb__route_may_match(row->pattern, path) ||
            !hsb__route_matches(row->pattern, path, hsb__text_absent(), NULL))
            continue;
        const bool good = hsb__route_is_row(row);
        if (good && hsb__route_takes(row, method))
            return row;
        if (good)
            *other = *other ? *other : row;
        else
            HSB__MISUSE(hsb__public_tell_request, req,
                        "hsb_request_route: malformed pattern or method, or no handler");
    }
    return NULL;
}

/* --- methods that are not there ---------------------------------------------------------- */
/* Adds a method to the list that begins at `from`, unless it is there.                     */
static bool hsb__route_list(hsb__buffer *out, size_t from, const char *method)
{
    hsb_str list = hsb__text_make(hsb__buffer_data(out) + from, hsb__buffer_len(out) - from);
    hsb_str element;
    while (hsb__text_next_element(&list, &element))
        if (hsb__text_is(element, method))
            return true;
    return hsb__buffer_append_text(out, ", ") && hsb__buffer_append_text(out, method);
}

/* RFC 9110 10.2.1: OPTIONS is answered here, and HEAD by what answers GET.                 */
static bool hsb__route_put_allow(hsb_request *req, const hsb_route *routes, hsb_str path)
{
    static const char name[] = "Allow: ";
    hsb__buffer *out = &req->fields_out;
    const bool all = hsb__text_is(path, "*");
    const size_t from = hsb__buffer_len(out) + sizeof name - 1;
    bool ok = hsb__buffer_append_text(out, name) && hsb__buffer_append_text(out, "OPTIONS");
    for (const hsb_route *row = routes; ok && row->pattern; row++) {
        if (!(all || hsb__route_matches(row->pattern, path, hsb__text_absent(), NULL)) ||
            !row->method || !hsb__route_is_row(row))
            continue;
        ok = hsb__route_list(out, from, row->method) &&
             (strcmp(row->method, "GET") != 0 || hsb__route_list(out, from, "HEAD"));
    }
    return ok && hsb__buffer_append_text(out, "\r\n");
}

static void hsb__route_answer(hsb_request *req, const hsb_route *routes, hsb_str path)
{
    if (!hsb__public_may_begin(req))
        return;
    if (!hsb__route_put_allow(req, routes, path))
        hsb__response_no_memory(req);
    else if (hsb__request_method_is(req, "OPTIONS"))
        hsb__response_whole(req, 204, NULL, hsb__text_absent());
    else
        hsb__response_plain_status(req, 405);
}

HSB_API bool hsb_request_route(hsb_request *req, const hsb_route *routes, void *user)
{
    const hsb_route *row, *other = NULL;
    if (!req || !routes || !req->opened) {
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_request_route: req or routes is NULL, or the request is over");
        return false;
    }
    const hsb_str path = hsb__request_text(req, req->head.path);
    if (!hsb__route_is_path(path))
        return false;
    row = hsb__route_find(req, routes, path, &other);
    if (row || other)
        req->pattern = row ? row->pattern : other->pattern;
    if (row)
        row->handler(req, user);
    else if (other || hsb__text_is(path, "*"))
        hsb__route_answer(req, routes, path);
    else
        return false;
    return true;
}

/* --- parameters -------------------------------------------------------------------------- */
static hsb_str hsb__route_decode(hsb_request *req, hsb_str part)
{
    size_t len;
    if (!part.len || !memchr(part.ptr, '%', part.len))
        return part;
    char *text = hsb__request_alloc(req, part.len + 1);
    return text && hsb__percent_decode(part, false, text, part.len + 1, &len)
               ? hsb__text_make(text, len) : hsb__text_absent();
}

HSB_API hsb_str hsb_request_param(hsb_request *req, const char *name)
{
    hsb_str part = hsb__text_absent();
    if (!req || !name) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_param: req or name is NULL");
        return part;
    }
    if (req->pattern)
        hsb__route_matches(req->pattern, hsb__request_text(req, req->head.path),
                           hsb__text_of(name), &part);
    return hsb__route_decode(req, part);
}

HSB_API const char *hsb_request_pattern(const hsb_request *req)
{
    HSB_ASSERT(req && "hsb_request_pattern: req is NULL");
    return req ? req->pattern : NULL;
}

/* ===== >>answers =================================================================
   Purpose  formatted answers, bytes of the program as an answer, a line for the access log
   Uses     >>platform >>memory >>text >>buffer >>address >>request >>response >>files
            >>public
   Names    hsb_respondf, hsb_respond_*, hsb_response_*f, hsb_request_log_line,
            hsb__answers_*
   Tests    tests/live/answers.c, tests/fault/story.c                              */

/* --- formatted text -------------------------------------------------------------------- */
/* Short texts are made on the stack, longer ones in a block of the pool.                 */
enum { HSB__ANSWERS_SHORT = 1024 };
typedef struct hsb__answers_text {
    char        space[HSB__ANSWERS_SHORT];
    hsb__buffer more;           /* if it does not fit                                     */
    hsb_str     text;           /* followed by a NUL                                      */
    bool        no_memory;      /* there is no text because of that                       */
} hsb__answers_text;

/* False: out of memory, or nothing that vsnprintf can make.  hsb__answers_drop must follow.  */
static bool hsb__answers_make(hsb__answers_text *t, hsb_request *req, const char *format,
                              va_list args)
{
    va_list again;
    va_copy(again, args);
    char *at = t->space;
    int len = vsnprintf(at, sizeof t->space, format, args), made = len;
    memset(&t->more, 0, sizeof t->more);
    t->more.pool = &req->channel.loop->pool;
    t->no_memory = false;
    if (len >= (int)sizeof t->space) {
        at = hsb__buffer_reserve(&t->more, (size_t)len + 1);
        t->no_memory = !at;
        made = at ? vsnprintf(at, (size_t)len + 1, format, again) : -1;
    }
    va_end(again);
    t->text = hsb__text_make(at, made < 0 ? 0 : (size_t)made);
    return made >= 0 && made == len;
}

/* The text may be a secret.                                                              */
static void hsb__answers_drop(hsb__answers_text *t)
{
    hsb__memory_wipe(t->space, sizeof t->space);
    hsb__buffer_release(&t->more);
}

/* A text that cannot be made: the answer has begun and is cut.                            */
static void hsb__answers_fail(hsb_request *req, const hsb__answers_text *t)
{
    if (t->no_memory)
        hsb__response_no_memory(req);
    else
        hsb__response_fail(req, HSB_ERR_MISUSE, "hsb_response_writef: the text cannot be made");
}

HSB_API void hsb_respondf(hsb_request *req, int status, const char *type, const char *format, ...)
{
    hsb__answers_text t;
    va_list args;
    if (!req || !format) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respondf: req or format is NULL");
        return;
    }
    if (!hsb__public_may_begin(req)) {
        if (!hsb__public_is_late(req))
            HSB__MISUSE(hsb__public_tell_request, req,
                        "hsb_respondf: this request is answered already");
        return;
    }
    va_start(args, format);
    if (hsb__answers_make(&t, req, format, args))
        hsb__response_whole(req, status, type, t.text);
    else
        hsb__response_plain_status(req, 500);
    va_end(args);
    hsb__answers_drop(&t);
}

HSB_API hsb_flow hsb_response_writef(hsb_request *req, const char *format, ...)
{
    hsb__answers_text t;
    hsb_flow flow = HSB_FLOW_GONE;
    va_list args;
    if (!req || !format) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_response_writef: req or format is NULL");
        return flow;
    }
    if (!hsb__public_may_write(req)) {
        if (!hsb__public_is_late(req))
            HSB__MISUSE(hsb__public_tell_request, req,
                        "hsb_response_writef: not between hsb_response_begin and _end");
        return flow;
    }
    va_start(args, format);
    if (hsb__answers_make(&t, req, format, args))
        flow = hsb__response_write(req, t.text);
    else
        hsb__answers_fail(req, &t);
    va_end(args);
    hsb__answers_drop(&t);
    return flow;
}

/* A NUL that %c has written would hide the rest of the value.                             */
HSB_API bool hsb_response_headerf(hsb_request *req, const char *name, const char *format, ...)
{
    hsb__answers_text t;
    va_list args;
    if (!req || !name || !format) {
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_response_headerf: req, name or format is NULL");
        return false;
    }
    va_start(args, format);
    const bool ok = hsb__answers_make(&t, req, format, args) &&
                    strlen(t.text.ptr) == t.text.len &&
                    hsb__response_header(req, name, t.text.ptr);
    va_end(args);
    hsb__answers_drop(&t);
    return ok;
}

/* --- Basic authentication (RFC 7617) ----------------------------------------------------- */
/* RFC 9110 5.6.4: a quoted-string.                                                        */
static bool hsb__answers_quote(hsb__buffer *out, hsb_str text)
{
    bool ok = hsb__buffer_append(out, "\"", 1);
    for (size_t i = 0; ok && i < text.len; i++)
        ok = ((text.ptr[i] != '"' && text.ptr[i] != '\\') || hsb__buffer_append(out, "\\", 1)) &&
             hsb__buffer_append(out, text.ptr + i, 1);
    return ok && hsb__buffer_append(out, "\"", 1);
}

/* RFC 7617 2.1: with charset, browsers send names and passwords as UTF-8.                 */
static void hsb__answers_unauthorized(hsb_request *req, hsb_str realm)
{
    hsb__buffer *out = &req->fields_out;
    if (!hsb__text_is_field_value(realm))
        hsb__response_plain_status(req, 500);
    else if (hsb__buffer_append_text(out, "WWW-Authenticate: Basic realm=") &&
             hsb__answers_quote(out, realm) &&
             hsb__buffer_append_text(out, ", charset=\"UTF-8\"\r\n"))
        hsb__response_plain_status(req, 401);
    else
        hsb__response_no_memory(req);
}

HSB_API void hsb_respond_unauthorized(hsb_request *req, const char *realm)
{
    if (!req || !realm)
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_unauthorized: req or realm is NULL");
    else if (hsb__public_may_begin(req))
        hsb__answers_unauthorized(req, hsb__text_of(realm));
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_unauthorized: this request is answered already");
}

/* --- bytes of the program ------------------------------------------------------------------ */
/* Another version of the bytes gets another number, all but surely.  That is all an ETag needs: who
   finds two pages with one number can only let his own copies become old.  So this may be faster
   than a hash for cryptography.  Machines of another byte order get another number.        */
static uint64_t hsb__answers_hash(hsb_str s)
{
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t h = s.len * odd;
    for (uint64_t word = 0; s.len; word = 0) {
        const size_t n = s.len < sizeof word ? s.len : sizeof word;
        memcpy(&word, s.ptr, n);
        h = (h ^ word) * odd;
        h ^= h >> 32;
        s = hsb__text_after(s, n);
    }
    h = (h ^ h >> 29) * odd;
    return h ^ h >> 32;
}

/* RFC 9110 8.8.3: etagc                                                                   */
static bool hsb__answers_is_etag(hsb_str tag)
{
    for (size_t i = 0; i < tag.len; i++)
        if (tag.ptr[i] == ' ' || tag.ptr[i] == '\t' || tag.ptr[i] == '"' ||
            !hsb__byte_is(tag.ptr[i], HSB__BYTE_FIELD))
            return false;
    return tag.len > 0 && tag.len <= 64;
}

/* RFC 9110 8.8.3.3: the packed form has a tag of its own.                                 */
static void hsb__answers_make_etag(hsb_request *req, const char *etag, hsb__file *f)
{
    if (etag && !hsb__answers_is_etag(hsb__text_of(etag))) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond_content: etag cannot be sent");
        etag = NULL;
    }
    if (etag)
        snprintf(f->etag, sizeof f->etag, "\"%s%s\"", etag, f->gzip ? "-gzip" : "");
    else
        snprintf(f->etag, sizeof f->etag, "\"%016llx\"", (unsigned long long)
                 hsb__answers_hash(hsb__text_make(f->bytes, (size_t)f->size)));
}

static void hsb__answers_content(hsb_request *req, const hsb_content *content)
{
    hsb__file f;
    memset(&f, 0, sizeof f);
    if (!hsb__request_reads(req)) {
        hsb__files_method_not_allowed(req);
        return;
    }
    if (!hsb__response_type_allowed(content->type)) {
        hsb__response_plain_status(req, 500);
        return;
    }
    f.varies = content->gzip.ptr != NULL;
    f.gzip = f.varies && hsb__files_takes_gzip(req);
    const hsb_str bytes = f.gzip ? content->gzip : content->body;
    f.fd = -1;
    f.bytes = bytes.len ? bytes.ptr : "";
    f.size = (int64_t)bytes.len;
    f.modified = content->modified;
    f.undated = content->modified == 0;
    f.type = content->type;
    hsb__answers_make_etag(req, content->etag, &f);
    hsb__files_answer(req, &f);
}

HSB_API void hsb_respond_content(hsb_request *req, const hsb_content *content)
{
    if (!req || !content)
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_respond_content: req or content is NULL");
    else if (hsb__public_may_begin(req))
        hsb__answers_content(req, content);
    else if (!hsb__public_is_late(req))
        HSB__MISUSE(hsb__public_tell_request, req,
                    "hsb_respond_content: this request is answered already");
}

/* --- the access log ------------------------------------------------------------------------ */
/* Counts all that is put, and keeps what fits before the last byte of buf.                 */
typedef struct hsb__answers_line { char *buf; size_t size, len; } hsb__answers_line;

static void hsb__answers_put(hsb__answers_line *line, hsb_str text)
{
    const size_t space = line->size > line->len ? line->size - line->len - 1 : 0;
    const size_t n = text.len < space ? text.len : space;
    if (n)
        memcpy(line->buf + line->len, text.ptr, n);
    line->len += text.len;
}

/* What the peer sent, between quotes: it can neither end them nor the line.                */
static void hsb__answers_put_escaped(hsb__answers_line *line, hsb_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.ptr[i];
        char escaped[4] = { '\\', (char)c };
        size_t len = 2;
        if (c < ' ' || c > '~') {
            escaped[1] = 'x';
            hsb__text_print_hex(escaped + 2, c, 'a');
            len = 4;
        }
        const bool plain = len == 2 && c != '"' && c != '\\';
        hsb__answers_put(line, plain ? hsb__text_make(text.ptr + i, 1)
                                     : hsb__text_make(escaped, len));
    }
}

static void hsb__answers_put_field(hsb__answers_line *line, const hsb_request *req,
                                   const char *name)
{
    const hsb_str value = hsb__request_header(req, name);
    hsb__answers_put(line, hsb__text_of(" \""));
    hsb__answers_put_escaped(line, value.ptr ? value : hsb__text_of("-"));
    hsb__answers_put(line, hsb__text_of("\""));
}

/* "192.0.2.1 - - [27/Nov/2026:13:24:43 +0000] ": when the request began to arrive.         */
static void hsb__answers_put_who_and_when(hsb__answers_line *line, const hsb_request *req)
{
    char text[HSB_ADDRESS_TEXT_MAX + 64], address[HSB_ADDRESS_TEXT_MAX];
    hsb_address peer = req->channel.conn->peer;
    const int64_t age = (int64_t)(hsb__os_now_us() - req->began_us);
    const hsb__date d = hsb__date_split(hsb__os_wall() - age / 1000000);
    peer.port = 0;
    snprintf(text, sizeof text, "%s - - [%02d/%.3s/%04d:%02d:%02d:%02d +0000] ",
             hsb__address_text(&peer, address), d.day, hsb__date_months + (d.month - 1) * 3,
             (int)d.year, d.hour, d.minute, d.second);
    hsb__answers_put(line, hsb__text_of(text));
}

HSB_API int hsb_request_log_line(const hsb_request *req, char *buf, size_t size)
{
    hsb__answers_line line = { buf, size, 0 };
    char text[64], status[16] = "-", bytes[24] = "-";
    if (!req || (!buf && size)) {
        HSB__MISUSE(hsb__public_tell_request, req, "hsb_request_log_line: req or buf is NULL");
        return 0;
    }
    const int64_t sent = hsb__response_bytes(req);
    if (req->status)
        snprintf(status, sizeof status, "%d", req->status);
    if (sent)
        snprintf(bytes, sizeof bytes, "%lld", (long long)sent);
    hsb__answers_put_who_and_when(&line, req);
    hsb__answers_put(&line, hsb__text_of("\""));
    hsb__answers_put_escaped(&line, hsb__request_text(req, req->head.method));
    hsb__answers_put(&line, hsb__text_of(" "));
    hsb__answers_put_escaped(&line, hsb__request_text(req, req->head.target));
    snprintf(text, sizeof text, " HTTP/1.%d\" %s %s", req->head.minor, status, bytes);
    hsb__answers_put(&line, hsb__text_of(text));
    hsb__answers_put_field(&line, req, "Referer");
    hsb__answers_put_field(&line, req, "User-Agent");
    if (size)
        buf[line.len < size ? line.len : size - 1] = '\0';
    return line.len < INT_MAX ? (int)line.len : INT_MAX;
}

/* ===== >>serve ===================================================================
   Purpose  a whole program: its signals, certificates that are renewed, sockets of systemd,
            threads, a port that redirects
   Uses     >>platform >>process >>text >>error >>address >>resolver >>poller >>listener
            >>security >>server >>public
   Names    hsb_serve, hsb__serve, hsb__serve_*
   Tests    tests/live/serve.c                                                       */

enum {
    HSB__SERVE_PORT     = 8443,
    HSB__SERVE_THREADS  = 64,
    HSB__SERVE_IDLE_MS  = 10000         /* nobody has much to say to a port that redirects */
};

/* One server and the thread that runs it.                                                 */
typedef struct hsb__serve_worker {
    struct hsb__serve *serve;
    hsb_server        *server;
    hsb__thread        thread;
    bool               started;
} hsb__serve_worker;

/* All of it belongs to the thread that called hsb_serve; but running is atomic.           */
typedef struct hsb__serve {
    const hsb_serve_desc *desc;
    hsb_security_desc     wanted;       /* desc's, with its defaults                       */
    hsb_options           options;      /* the same                                        */
    const char           *host;
    int                   port;         /* 0: the system picks                             */
    hsb_security         *security;     /* in use                                          */
    hsb__watch            signals;      /* in the poller of the first server               */
    size_t                stops;        /* so many of the signals were obeyed              */
    int                   passed;       /* sockets from systemd                            */
    int                   count;        /* threads that serve                              */
    hsb__serve_worker     workers[HSB__SERVE_THREADS + 1];     /* [count]: the one that redirects;
                                           [0] has no thread of its own                    */
    size_t                running;      /* threads that were started and have not ended    */
} hsb__serve;

/* --- printing ----------------------------------------------------------------------- */
static hsb__mutex hsb__serve_lock = HSB__MUTEX_INIT;    /* guards these two                */
static int hsb__serve_lost;             /* lines that nobody read, since the last one that was */
static bool hsb__serve_is_running;

/* A line that cannot be written now is lost, and counted.                                 */
static void hsb__serve_write(int fd, const char *line, size_t len)
{
    char lost[64];
    int n = snprintf(lost, sizeof lost, "%d lines are lost, because nobody read them\n",
                     hsb__serve_lost);
    if (hsb__serve_lost && hsb__process_print(HSB__ERRORS, lost, (size_t)n))
        hsb__serve_lost = 0;
    hsb__serve_lost += !hsb__process_print(fd, line, len);
}

/* One line, to which the newline is added.                                                */
__attribute__((format(printf, 2, 3)))
static void hsb__serve_print(int fd, const char *format, ...)
{
    char line[HSB__PRINT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t len = (size_t)n < sizeof line - 2 ? (size_t)n : sizeof line - 2;
    line[len] = '\n';
    hsb__mutex_lock(&hsb__serve_lock);
    hsb__serve_write(fd, line, len + 1);
    hsb__mutex_unlock(&hsb__serve_lock);
}

/* The on_error of a program that has none.  Browsers open connections that they do not use
   after all, so a connection that was closed before a request is no error.                */
static void hsb__serve_on_error(hsb_server *server, hsb_conn *conn, const hsb_error *err,
                                void *user)
{
    char peer[HSB_ADDRESS_TEXT_MAX] = "";
    (void)server;
    (void)user;
    if (err->status == HSB_ERR_CLOSED)
        return;
    if (conn) {
        hsb_address address = hsb_conn_peer(conn);
        hsb_address_text(&address, peer);
    }
    hsb__serve_print(HSB__ERRORS, "%s%s%s", peer, conn ? ": " : "", err->text);
}

/* --- the port that redirects -------------------------------------------------------- */
/* host without its port, if it is a name or an address and nothing else; else absent.     */
static hsb_str hsb__serve_host_of(hsb_str host)
{
    bool address = host.len && host.ptr[0] == '[';
    size_t len = 0;
    while (len < host.len && host.ptr[len] != (address ? ']' : ':'))
        len++;
    len += address && len < host.len;
    if (len == 0 || len > 255)
        return hsb__text_absent();
    for (size_t i = 0; i < len; i++) {
        char c = host.ptr[i];
        bool name = hsb__text_hex(c) >= 0 || (c >= 'g' && c <= 'z') || (c >= 'G' && c <= 'Z') ||
                    c == '-' || c == '.' || c == '_';
        bool part = address && (c == '[' || c == ']' || c == ':');
        if (!name && !part)
            return hsb__text_absent();
    }
    return hsb__text_make(host.ptr, len);
}

/* An on_head: 308, so that a POST stays a POST.                                           */
static void hsb__serve_redirect(hsb_request *req, void *user)
{
    const hsb__serve *s = user;
    char location[9000], port[8] = "";
    int number = hsb_server_port(s->workers[0].server);
    hsb_str host = hsb__serve_host_of(hsb_request_host(req));
    hsb_str path = hsb_request_path(req), query = hsb_request_query(req);
    if (number != 0 && number != 443)
        snprintf(port, sizeof port, ":%d", number);
    int n = snprintf(location, sizeof location, "https://%.*s%s%.*s%s%.*s",
                     (int)host.len, host.ptr ? host.ptr : "", port, (int)path.len,
                     path.ptr ? path.ptr : "", query.ptr ? "?" : "",
                     (int)query.len, query.ptr ? query.ptr : "");
    if (host.len && path.len && path.ptr[0] == '/' && n > 0 && (size_t)n < sizeof location)
        hsb_respond_redirect(req, 308, location);
    else
        hsb_respond(req, 400, "text/plain", hsb_text("this port only redirects to https\n"));
}

/* --- binding ------------------------------------------------------------------------ */
static bool hsb__serve_is_local(const hsb__serve *s)
{
    return hsb__text_is_nocase(hsb__text_of(s->host), "localhost");
}

static bool hsb__serve_is_unix(const char *host)
{
    return strncmp(host, "unix:", 5) == 0;
}

/* Adds a socket to a worker, whose server begins with the first.  fd is -1, or a socket that
   is owned by the server if this succeeds.                                                */
static bool hsb__serve_listen(hsb__serve_worker *w, const hsb_address *address, int fd,
                              const hsb_options *options, hsb_security *security, hsb_error *err)
{
    if (w->server)
        return hsb__server_listen(w->server, fd < 0 ? address : NULL, fd, security, err) >= 0;
    w->server = hsb__server_bind(fd < 0 ? address : NULL, fd, security, options, err);
    return w->server != NULL;
}

/* localhost is two addresses, and browsers try ::1 first.  Where there is no IPv6, or the
   port that the system picked happens to be taken there, 127.0.0.1 has to do.             */
static bool hsb__serve_bind(hsb__serve *s, hsb__serve_worker *w, int port,
                            const hsb_options *options, hsb_security *security, hsb_error *err)
{
    hsb_address a;
    const char *first = hsb__serve_is_local(s) ? HSB_LOOPBACK_IP_V4 : s->host;
    if (!hsb__resolver_bind_address(&a, first, port, err) ||
        !hsb__serve_listen(w, &a, -1, options, security, err))
        return false;
    if (!hsb__serve_is_local(s))
        return true;
    hsb__address_parse(&a, HSB_LOOPBACK_IP_V6);
    a.port = (uint16_t)hsb_server_port(w->server);
    return hsb__serve_listen(w, &a, -1, options, security, err) || port == 0 ||
           err->system_code != HSB__OS_IN_USE;
}

/* A socket from systemd is for the redirects if it has their port.                        */
static bool hsb__serve_bind_passed(hsb__serve *s, hsb__serve_worker *w, bool redirects,
                                   const hsb_options *options, hsb_security *security,
                                   hsb_error *err)
{
    for (int fd = HSB__PASSED; fd < HSB__PASSED + s->passed; fd++) {
        hsb_address a;
        bool known = hsb__os_local_address(fd, &a);
        bool theirs = known && s->desc->redirect_port > 0 && a.port == s->desc->redirect_port;
        if (theirs == redirects && !hsb__serve_listen(w, NULL, fd, options, security, err))
            return false;
    }
    return true;
}

/* One more server on the sockets of the first.  Servers that share an address by name take
   turns; those that share a duplicate do not.                                             */
static bool hsb__serve_join(hsb__serve *s, hsb__serve_worker *w, hsb_error *err)
{
    const hsb_server *first = s->workers[0].server;
    for (int i = 0; i < first->door_count; i++) {
        const hsb__listener *l = &first->doors[i]->listener;
        hsb__socket fd = l->shared ? HSB__NO_SOCKET : hsb__os_duplicate(l->watch.fd);
        if (!l->shared && fd == HSB__NO_SOCKET)
            return hsb__error_system(err, hsb__os_error(), "duplicating a socket");
        if (!hsb__serve_listen(w, &l->address, fd, &s->options, s->security, err)) {
            hsb__os_close(fd);
            return false;
        }
    }
    return true;
}

static bool hsb__serve_bind_redirect(hsb__serve *s, hsb_error *err)
{
    hsb__serve_worker *w = &s->workers[s->count];
    hsb_options o;
    memset(&o, 0, sizeof o);
    o.v6_only = s->options.v6_only;
    o.allocator = s->options.allocator;
    o.timeouts.idle = HSB__SERVE_IDLE_MS;
    o.hooks.user = s;
    o.hooks.on_head = hsb__serve_redirect;
    if (!hsb__serve_bind_passed(s, w, true, &o, NULL, err))
        return false;
    int port = s->desc->redirect_port < 0 ? 0 : s->desc->redirect_port;
    if (!s->passed && hsb__serve_is_unix(s->host))
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_INVALID, 0,
                              "redirect_port: a Unix socket has no port");
    return w->server || s->passed || hsb__serve_bind(s, w, port, &o, NULL, err);
}

static bool hsb__serve_bind_all(hsb__serve *s, hsb_error *err)
{
    bool good = s->passed
        ? hsb__serve_bind_passed(s, &s->workers[0], false, &s->options, s->security, err)
        : hsb__serve_bind(s, &s->workers[0], s->port, &s->options, s->security, err);
    if (good && !s->workers[0].server)
        return hsb__error_set(err, HSB_ERR_SYSTEM, HSB__OS_INVALID, 0,
                              "all sockets that were passed have the port that redirects");
    for (int i = 1; good && i < s->count; i++)
        good = hsb__serve_join(s, &s->workers[i], err);
    return good && (!s->desc->redirect_port || hsb__serve_bind_redirect(s, err));
}

/* --- certificates ------------------------------------------------------------------- */
static bool hsb__serve_has_files(const hsb_security_desc *d)
{
    bool files = d->identity.chain.path || d->identity.key.path || d->trusted.path ||
                 d->revoked.path || d->client_authorities.path;
    for (int i = 0; i < d->identity_count; i++)
        files = files || d->identities[i].chain.path || d->identities[i].key.path;
    return files;
}

/* arg is owned by this call.                                                              */
static void hsb__serve_renew(hsb_server *server, void *arg)
{
    hsb_error err;
    if (!hsb_server_set_security(server, -1, arg, &err))
        hsb__serve_print(HSB__ERRORS, "keeping the old certificate: %s", err.text);
    hsb_security_free(arg);
}

static void hsb__serve_print_certificate(const hsb_security *security)
{
    const uint8_t *sha256 = hsb_security_sha256(security);
    char text[3 * 32], *at = text;
    for (int i = 0; i < 32; i++) {
        at = hsb__text_print_hex(at, sha256[i], 'A');
        *at++ = i < 31 ? ':' : '\0';
    }
    hsb__serve_print(HSB__ERRORS, "new certificate, SHA-256 %s", text);
}

/* The first server is this thread's; the others get the new security on theirs.           */
static void hsb__serve_reload(hsb__serve *s)
{
    hsb_error err;
    hsb_security *fresh = hsb_security_new(&s->wanted, &err);
    if (!fresh || !hsb_server_set_security(s->workers[0].server, -1, fresh, &err)) {
        hsb__serve_print(HSB__ERRORS, "keeping the old certificate: %s", err.text);
        hsb_security_free(fresh);
        return;
    }
    for (int i = 1; i < s->count; i++) {
        hsb__security_retain(fresh);
        if (!hsb_server_post(s->workers[i].server, 0, hsb__serve_renew, fresh)) {
            hsb__serve_print(HSB__ERRORS, "a thread keeps the old certificate: out of memory");
            hsb_security_free(fresh);
        }
    }
    hsb_security_free(s->security);
    s->security = fresh;
    hsb__serve_print_certificate(fresh);
}

/* --- signals ------------------------------------------------------------------------ */
static void hsb__serve_close_all(hsb__serve *s, bool force)
{
    for (int i = 0; i <= s->count; i++)
        if (s->workers[i].server)
            hsb_server_close(s->workers[i].server, force);
}

/* Whether a stop may take a while: what other threads have open is not for this one to see. */
static bool hsb__serve_is_busy(const hsb__serve *s)
{
    hsb_connections now = hsb_server_connections(s->workers[0].server);
    return s->count > 1 || now.active + now.detached > 0;
}

/* Posted when the server was closed, so that its closing has begun: a program may have
   farewells to send.                                                                      */
static void hsb__serve_tell(hsb_server *server, void *unused)
{
    const hsb_hooks *hooks = &server->loop.options.hooks;
    (void)unused;
    if (hooks->on_wake && !server->closed)
        hooks->on_wake(server, hooks->user);
}

/* Does what the signals ask for.                                                          */
static void hsb__serve_obey(hsb__serve *s)
{
    hsb__signals *signals = &hsb__signals_of_process;
    hsb__wake_hush(&signals->wake);
    size_t stops = hsb__atomic_get(&signals->stops);
    if (hsb__atomic_take_flags(&signals->hangups) && !stops)
        hsb__serve_reload(s);
    if (stops == s->stops)
        return;
    if (s->stops == 0 && hsb__serve_is_busy(s))
        hsb__serve_print(HSB__ERRORS, "finishing what is open; once more stops at once");
    hsb__serve_close_all(s, stops > 1);
    for (int i = 0; i < s->count && s->stops == 0; i++)
        hsb_server_post(s->workers[i].server, 0, hsb__serve_tell, NULL);
    s->stops = stops;
}

static void hsb__serve_signalled(hsb__watch *watch, unsigned events)
{
    (void)events;
    hsb__serve_obey(watch->owner);
}

/* --- running ------------------------------------------------------------------------ */
static void *hsb__serve_work(void *worker)
{
    hsb__serve_worker *w = worker;
    hsb_server_run(w->server, NULL);
    hsb__serve_close_all(w->serve, false);      /* the program may have closed only this one  */
    hsb__atomic_sub(&w->serve->running, 1);
    hsb__wake_ring(&hsb__signals_of_process.wake);
    return NULL;
}

static bool hsb__serve_start(hsb__serve *s, hsb_error *err)
{
    for (int i = 1; i <= s->count; i++) {
        hsb__serve_worker *w = &s->workers[i];
        if (!w->server)
            continue;
        hsb__atomic_add(&s->running, 1);
        w->started = hsb__thread_start(&w->thread, hsb__serve_work, w);
        if (w->started)
            continue;
        int code = hsb__os_error();
        hsb__atomic_sub(&s->running, 1);
        return hsb__error_set(err, HSB_ERR_SYSTEM, code, 0, "cannot start a thread: %s",
                              code == HSB__OS_NO_CALL ? "link with -pthread, and compile "
                              "without HSB_NO_THREADS" : hsb__os_error_text(code));
    }
    return true;
}

static void hsb__serve_announce(hsb__serve *s)
{
    char text[HSB_ADDRESS_TEXT_MAX], redirects[48] = "";
    const hsb_server *plain = s->workers[s->count].server;
    hsb_address a = hsb_server_address(s->workers[0].server, 0);
    hsb_address_text(&a, text);
    if (!s->passed && hsb__serve_is_local(s))
        snprintf(text, sizeof text, "localhost:%d", (int)a.port);
    if (plain)
        snprintf(redirects, sizeof redirects, ", to which port %d redirects",
                 hsb_server_port(plain));
    hsb__serve_print(HSB__OUTPUT, "listening on %s%s%s", a.family == HSB_UNIX ? "" : "https://",
                     text, redirects);
}

/* Returns when all servers have ended, on all threads.                                    */
static void hsb__serve_run(hsb__serve *s)
{
    hsb_server *first = s->workers[0].server;
    hsb_server_run(first, NULL);
    hsb__poller_drop(&first->loop.poller, &s->signals);
    hsb__serve_close_all(s, false);
    while (hsb__atomic_get(&s->running) > 0) {
        hsb__wake_wait(&hsb__signals_of_process.wake);
        hsb__serve_obey(s);
    }
}

static bool hsb__serve_open(hsb__serve *s, hsb_error *err)
{
    s->security = hsb_security_new(&s->wanted, err);
    if (!s->security || !hsb__serve_bind_all(s, err))
        return false;
    s->signals.fd = hsb__signals_of_process.wake.read_fd;
    s->signals.ready = hsb__serve_signalled;
    s->signals.owner = s;
    if (!hsb__poller_add(&s->workers[0].server->loop.poller, &s->signals, HSB__READ))
        return hsb__error_system(err, hsb__os_error(), "watching for signals");
    if (s->desc->on_ready)
        for (int i = 0; i < s->count; i++)
            s->desc->on_ready(s->workers[i].server, s->security, s->options.hooks.user);
    return hsb__serve_start(s, err);
}

static void hsb__serve_close(hsb__serve *s)
{
    hsb__serve_close_all(s, true);              /* those that run after a failure             */
    for (int i = 1; i <= s->count; i++)
        if (s->workers[i].started)
            hsb__thread_join(s->workers[i].thread);
    for (int i = s->count; i >= 0; i--) {
        if (i == 0 && s->workers[0].server)
            hsb__poller_drop(&s->workers[0].server->loop.poller, &s->signals);
        hsb_server_free(s->workers[i].server);
    }
    hsb_security_free(s->security);
}

/* --- all of it ---------------------------------------------------------------------- */
/* A certificate for the host; for all addresses, or no address, there is no such name.    */
static const char *hsb__serve_name(const char *host)
{
    hsb_address a;
    static const uint8_t any[16];
    bool numeric = hsb__address_parse(&a, host);
    bool is_any = numeric && memcmp(a.bytes, any, a.family == HSB_IPV4 ? 4 : 16) == 0;
    return is_any || hsb__serve_is_unix(host) ? "localhost" : host;
}

static bool hsb__serve_resolve(hsb__serve *s, const hsb_serve_desc *desc, hsb_error *err)
{
    memset(s, 0, sizeof *s);
    s->desc = desc;
    s->host = desc->host ? desc->host : "localhost";
    s->port = desc->port == 0 ? HSB__SERVE_PORT : desc->port < 0 ? 0 : desc->port;
    s->count = desc->threads ? desc->threads : 1;
    if (s->count < 0 || s->count > HSB__SERVE_THREADS)
        return hsb__error_set(err, HSB_ERR_LIMIT, 0, 0, "threads: %d is not within 1 and %d",
                              s->count, HSB__SERVE_THREADS);
    s->wanted = desc->security;
    if (!s->wanted.self_signed_for && !s->wanted.identity_count && !s->wanted.identity.chain.path &&
        !s->wanted.identity.chain.text.ptr)
        s->wanted.self_signed_for = hsb__serve_name(s->host);
    s->options = desc->options;
    s->options.shared = (s->options.shared || s->count > 1) && !hsb__serve_is_unix(s->host);
    if (!s->options.hooks.on_error)
        s->options.hooks.on_error = hsb__serve_on_error;
    for (int i = 0; i <= s->count; i++)
        s->workers[i].serve = s;
    return true;
}

/* The state is the process's, so there is one of these at a time.                         */
static bool hsb__serve_enter(bool running)
{
    hsb__mutex_lock(&hsb__serve_lock);
    bool changed = hsb__serve_is_running != running;
    hsb__serve_is_running = running;
    hsb__mutex_unlock(&hsb__serve_lock);
    return changed;
}

static bool hsb__serve_whole(hsb__serve *s, hsb_error *err)
{
    bool hangup = hsb__serve_has_files(&s->wanted);
    s->passed = hsb__process_passed_sockets();
    if (!hsb__process_open_standard())
        return hsb__error_system(err, hsb__os_error(), "/dev/null");
    if (!hsb__signals_take(hangup))
        return hsb__error_system(err, hsb__os_error(), "watching for signals");
    bool good = hsb__serve_open(s, err);
    if (good) {
        hsb__serve_announce(s);
        hsb__serve_run(s);
    }
    hsb__serve_close(s);
    hsb__signals_give_back(hangup);
    return good;
}

HSB_API int hsb_serve(const hsb_serve_desc *desc)
{
    hsb__serve s;
    hsb_error err;
    if (!desc) {
        HSB__MISUSE(hsb__serve_print, HSB__ERRORS, "hsb_serve: desc is NULL");
        return 1;
    }
    if (!hsb__serve_enter(true)) {
        HSB__MISUSE(hsb__serve_print, HSB__ERRORS, "hsb_serve: another call has not returned");
        return 1;
    }
    bool good = hsb__serve_resolve(&s, desc, &err) && hsb__serve_whole(&s, &err);
    if (!good)
        hsb__serve_print(HSB__ERRORS, "%s", err.text);
    hsb__serve_enter(false);
    return good ? 0 : 1;
}

#if defined(__clang__)
#  pragma clang diagnostic pop
#endif
#endif /* HTTPSBIND_IMPLEMENTATION or HTTPSBIND_STATIC */

/* ===== >>changes =================================================================
   0.2.0, 2026-11-27
          TLS 1.3, beside TLS 1.2 and by default: versions, ticket_key, ml_kem_768,
          on_key_log; hsb_tls_info.group and .signature.  Missing on purpose: early data,
          exporters, authentication after the handshake, certificates signed with RSASSA-PSS
          (RFC 8446 9.1 wants them; >>trust does not verify them).
          Client certificates are judged by rules of our own over the whole path, and
          revoked takes revocation lists: see >>verify.  hsb_certificate.serial and
          .key_sha256 name a certificate and a key; sha256 names a file only.
          A certificate in trusted that is no CA is a pin: the same bytes or nothing.
          A request has memory of its own, up to limits.request_bytes: hsb_request_alloc,
          _format, _html, _percent.  What it says, decoded: hsb_request_query_value,
          _form_value, _is_type, _basic_auth, _safe_name.  hsb_equal_secret, hsb_random,
          hsb_token.
          hsb_request_route, _param and _pattern: a table of methods and paths, with 405 and
          OPTIONS.  hsb_respondf, hsb_response_writef and _headerf; hsb_respond_unauthorized;
          hsb_respond_content for pages inside the program; hsb_request_log_line; the hook
          on_error_page.
          hsb_serve: a whole program in one call, with signals, renewal, sockets of systemd,
          threads and a port that redirects.
          self_signed_names, and local_ca: certificates that outlive a restart, from a CA of
          this machine that a client trusts once.
          limits.per_address; timeouts.stream, after which a silent stream ends;
          hsb_server_closing.
          Unix sockets: "unix:/path" as a host, HSB_UNIX, and descriptors of them.
          options.proxy_protocol: the client that haproxy, nginx or another proxy names.
          Sharers of a port have to agree on TLS and on client certificates.  ALPN
          without a common protocol ends the handshake.
          Misuse with assertions off does nothing, in every function; before, most of them
          went on with a NULL.  An assertion's text names the call and what was wrong.
          hsb_percent_decode accepts NULL for len.
          Forms with files (multipart/form-data): hsb_request_multipart takes the parts as they
          arrive, hsb_request_next_part takes them out of a kept body.
          A request that nobody answers is reported to on_error with its method and target.
          What to change: hsb_address has got a path, and its text is longer: print it into
          HSB_ADDRESS_TEXT_MAX bytes.  on_log and hsb_log_level are gone, as nothing needed
          them; ask hsb_server_connections how many connections are open, and write an access
          log in on_finish.  hsb_server_poll, _fd and _timeout return -1 for a NULL server.
          hsb_websocket_close with a code that must not be sent does nothing, where it sent
          a Close without a code.  hsb_respond_file and _dir no longer send
          multipart/byteranges: several ranges get one range or the whole file.
          Inside, the sections got one subject each: >>der and >>pem, >>x509, >>chain and
          >>selfsigned, and more.
   0.1.0  The first version.

   Before 1.0 a minor version may change the API, and this list says what to change.  A patch
   version never changes it.  From 1.0 on: semantic versioning.  What compiles will compile
   until the major version changes.                                                   */

/* ===== >>licence =================================================================
   MIT License

   Copyright (c) 2026 the httpsbind.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy
   of this software and associated documentation files (the "Software"), to deal
   in the Software without restriction, including without limitation the rights
   to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
   copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all
   copies or substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
   IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
   FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
   AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
   LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
   SOFTWARE.                                                                          */
