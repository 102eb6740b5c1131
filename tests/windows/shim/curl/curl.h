/* There is no libcurl for mingw-w64 in Debian: what tests/client.h needs to compile.  A test that
   comes to use it fails.                                                                   */
#ifndef SHIM_CURL_H
#define SHIM_CURL_H

typedef void CURL;
typedef void CURLM;
typedef int CURLcode;
struct curl_slist;
typedef struct CURLMsg { int msg; struct { CURLcode result; } data; } CURLMsg;
enum { CURLE_OK, CURLE_SSL_CONNECT_ERROR, CURLE_RECV_ERROR, CURLE_OPERATION_TIMEDOUT, CURLMSG_DONE, CURL_IPRESOLVE_V4, CURLOPT_ANY };
#define CURLOPT_URL          CURLOPT_ANY
#define CURLOPT_IPRESOLVE    CURLOPT_ANY
#define CURLOPT_CAINFO       CURLOPT_ANY
#define CURLOPT_NOSIGNAL     CURLOPT_ANY
#define CURLOPT_PATH_AS_IS   CURLOPT_ANY
#define CURLOPT_MIMEPOST      CURLOPT_ANY
#define CURLOPT_WRITEFUNCTION CURLOPT_ANY
#define CURLOPT_WRITEDATA     CURLOPT_ANY
#define CURL_ZERO_TERMINATED  0
typedef void curl_mime;
typedef void curl_mimepart;
typedef long long curl_off_t;
#define curl_mime_init(e) NULL
#define curl_mime_addpart(m) NULL
#define curl_mime_name(...) ((void)0)
#define curl_mime_data(...) ((void)0)
#define curl_mime_data_cb(...) ((void)0)
#define curl_mime_filename(...) ((void)0)
#define curl_mime_type(...) ((void)0)
#define curl_mime_free(m) ((void)0)
#define curl_easy_getinfo(...) ((void)0)
#define curl_easy_cleanup(e) ((void)0)
#define CURL_GLOBAL_DEFAULT  0
#define curl_global_init(flags) ((void)0)
#define curl_global_cleanup() ((void)0)
#define curl_easy_init() NULL
#define curl_easy_setopt(...) ((void)0)
#define curl_multi_init() NULL
#define curl_multi_add_handle(m, e) ((void)0)
#define curl_multi_perform(m, running) ((void)0)
#define curl_multi_info_read(m, left) NULL
#define curl_multi_remove_handle(m, e) ((void)0)
#define curl_multi_cleanup(m) ((void)0)

#endif
