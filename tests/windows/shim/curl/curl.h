/* There is no libcurl for mingw-w64 in Debian: what tests/client.h needs to compile.  A test that
   comes to use it fails.                                                                   */
#ifndef SHIM_CURL_H
#define SHIM_CURL_H

typedef void CURL;
typedef void CURLM;
typedef int CURLcode;
struct curl_slist;
typedef struct CURLMsg { int msg; struct { CURLcode result; } data; } CURLMsg;
enum { CURLE_OK, CURLE_OPERATION_TIMEDOUT, CURLMSG_DONE, CURL_IPRESOLVE_V4, CURLOPT_ANY };
#define CURLOPT_URL          CURLOPT_ANY
#define CURLOPT_IPRESOLVE    CURLOPT_ANY
#define CURLOPT_CAINFO       CURLOPT_ANY
#define CURLOPT_NOSIGNAL     CURLOPT_ANY
#define CURLOPT_PATH_AS_IS   CURLOPT_ANY
#define curl_easy_init() NULL
#define curl_easy_setopt(...) ((void)0)
#define curl_multi_init() NULL
#define curl_multi_add_handle(m, e) ((void)0)
#define curl_multi_perform(m, running) ((void)0)
#define curl_multi_info_read(m, left) NULL
#define curl_multi_remove_handle(m, e) ((void)0)
#define curl_multi_cleanup(m) ((void)0)

#endif
