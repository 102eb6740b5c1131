/* >>der: reading and writing DER.  What is read ends at a guard page. */
#define HTTPSBIND_IMPLEMENTATION
#include "httpsbind.h"

#include "guard.h"
#include "keys_help.h"

/* --- DER, read --------------------------------------------------------------------- */

static hsb_str der_of(const void *bytes, size_t len)
{
    return hsb__text_make(guard_copy(bytes, len), len);
}
#define DER(bytes) der_of(bytes, sizeof bytes - 1)

static bool takes(hsb_str s, size_t header, size_t content)
{
    hsb_str rest = s, got = { NULL, 0 };
    unsigned tag;
    if (!hsb__der_next(&rest, &tag, &got)) {
        assert_ptr_equal(rest.ptr, s.ptr);
        assert_int_equal(rest.len, s.len);
        return false;
    }
    assert_ptr_equal(got.ptr, s.ptr + header);
    assert_int_equal(got.len, content);
    assert_int_equal(rest.len, s.len - header - content);
    return true;
}

static void der_lengths(void **state)
{
    static char large[0x10005];
    (void)state;
    assert_true(takes(DER("\x04\x00"), 2, 0));
    assert_true(takes(DER("\x04\x01x"), 2, 1));
    assert_true(takes(DER("\x04\x01xy"), 2, 1));
    assert_false(takes(DER(""), 0, 0));
    assert_false(takes(DER("\x04"), 0, 0));
    assert_false(takes(DER("\x04\x01"), 0, 0));
    assert_false(takes(DER("\x04\x80"), 0, 0));                 /* indefinite                */
    assert_false(takes(DER("\x04\x80\x00\x00"), 0, 0));
    assert_false(takes(DER("\x04\x81"), 0, 0));
    assert_false(takes(DER("\x04\x81\x01x"), 0, 0));            /* not the shortest          */
    assert_false(takes(DER("\x04\x82\x01"), 0, 0));
    assert_false(takes(DER("\x04\x84\x00\x00\x00\x00"), 0, 0));
    assert_false(takes(DER("\x04\xFF"), 0, 0));
    assert_false(takes(DER("\x1F\x01\x00"), 0, 0));             /* a tag of several bytes    */
    assert_false(takes(DER("\xBF\x01\x00"), 0, 0));
    memcpy(large, "\x04\x81\x7F", 3);
    assert_false(takes(der_of(large, 3 + 0x7F), 0, 0));
    memcpy(large, "\x04\x81\x80", 3);
    assert_true(takes(der_of(large, 3 + 0x80), 3, 0x80));
    assert_false(takes(der_of(large, 2 + 0x80), 0, 0));
    memcpy(large, "\x04\x82\x00\xFF", 4);
    assert_false(takes(der_of(large, 4 + 0xFF), 0, 0));
    memcpy(large, "\x04\x82\x01\x00", 4);
    assert_true(takes(der_of(large, 4 + 0x100), 4, 0x100));
    memcpy(large, "\x04\x83\x00\xFF\xFF", 5);
    assert_false(takes(der_of(large, sizeof large), 0, 0));
    memcpy(large, "\x04\x83\x01\x00\x00", 5);
    assert_true(takes(der_of(large, sizeof large), 5, 0x10000));
    assert_false(takes(der_of(large, sizeof large - 1), 0, 0));
}

static void der_elements(void **state)
{
    hsb_str rest = DER("\x04\x01x\x05\x00"), content, whole;
    (void)state;
    assert_false(hsb__der_take(&rest, HSB__DER_SEQUENCE, &content));
    assert_int_equal(rest.len, 5);
    assert_true(hsb__der_optional(&rest, HSB__DER_SEQUENCE, &content));
    assert_null(content.ptr);
    assert_true(hsb__der_whole(&rest, HSB__DER_OCTETS, &whole));
    assert_int_equal(whole.len, 3);
    assert_true(hsb__der_optional(&rest, 0x05, &content));
    assert_non_null(content.ptr);
    assert_int_equal(rest.len, 0);
    assert_false(hsb__der_take(&rest, 0x05, &content));
    rest = DER("\x05\x01");                     /* there, but broken                         */
    assert_false(hsb__der_optional(&rest, 0x05, &content));
}

static int64_t small_of(hsb_str s)
{
    uint32_t n;
    return hsb__der_small(&s, UINT32_MAX, &n) ? (int64_t)n : -1;
}

static void der_integers(void **state)
{
    hsb_str rest, digits;
    uint32_t n;
    (void)state;
    assert_int_equal(small_of(DER("\x02\x01\x00")), 0);
    assert_int_equal(small_of(DER("\x02\x01\x7F")), 127);
    assert_int_equal(small_of(DER("\x02\x02\x00\x80")), 128);
    assert_int_equal(small_of(DER("\x02\x04\x7F\xFF\xFF\xFF")), 0x7FFFFFFF);
    assert_int_equal(small_of(DER("\x02\x05\x00\xFF\xFF\xFF\xFF")), UINT32_MAX);
    assert_int_equal(small_of(DER("\x02\x05\x01\x00\x00\x00\x00")), -1);
    assert_int_equal(small_of(DER("\x02\x01\x80")), -1);        /* negative                  */
    assert_int_equal(small_of(DER("\x02\x02\x00\x7F")), -1);    /* not the shortest          */
    assert_int_equal(small_of(DER("\x02\x02\x00\x00")), -1);
    assert_int_equal(small_of(DER("\x02\x00")), -1);
    assert_int_equal(small_of(DER("\x04\x01\x01")), -1);
    rest = DER("\x02\x01\x02");
    assert_false(hsb__der_small(&rest, 1, &n));
    rest = DER("\x02\x01\x00");
    assert_false(hsb__der_positive(&rest, &digits));
    rest = DER("\x02\x02\x00\x80");
    assert_true(hsb__der_positive(&rest, &digits));
    assert_int_equal(digits.len, 1);
    rest = DER("\x03\x02\x00\x55");
    assert_true(hsb__der_bytes(&rest, &digits));
    assert_int_equal(digits.len, 1);
    rest = DER("\x03\x02\x01\x54");             /* seven bits                                */
    assert_false(hsb__der_bytes(&rest, &digits));
    rest = DER("\x03\x00");
    assert_false(hsb__der_bytes(&rest, &digits));
}

static const char *oid_of(hsb_str s)
{
    static char text[HSB__DER_OID_TEXT];
    return hsb__der_oid_text(s, text) ? text : "";
}

static void der_oids(void **state)
{
    char many[64];
    (void)state;
    assert_string_equal(oid_of(DER("\x55\x04\x03")), "2.5.4.3");
    assert_string_equal(oid_of(DER("\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01")),
                        "1.2.840.113549.1.1.1");
    assert_string_equal(oid_of(DER("\x00")), "0.0");
    assert_string_equal(oid_of(DER("\x27")), "0.39");
    assert_string_equal(oid_of(DER("\x28")), "1.0");
    assert_string_equal(oid_of(DER("\x50")), "2.0");
    assert_string_equal(oid_of(DER("\x88\x37\x03")), "2.999.3");
    assert_string_equal(oid_of(DER("\x55\x81\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F")),
                        "2.5.18446744073709551615");
    assert_string_equal(oid_of(DER("\x55\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00")), "");
    assert_string_equal(oid_of(DER("")), "");
    assert_string_equal(oid_of(DER("\x55\x80\x03")), "");       /* not the shortest          */
    assert_string_equal(oid_of(DER("\x55\x84")), "");           /* ends within a number      */
    memset(many, 1, sizeof many);
    assert_string_equal(oid_of(der_of(many, sizeof many)), "");
    assert_true(hsb__der_oid_is(DER("\x55\x04\x03"), "2.5.4.3"));
    assert_false(hsb__der_oid_is(DER("\x55\x04\x03"), "2.5.4.30"));
    assert_false(hsb__der_oid_is(DER("\x55\x84"), ""));
}

static int64_t time_of(hsb_str s)
{
    int64_t seconds;
    return hsb__der_time(&s, &seconds) ? seconds : INT64_MIN;
}
#define UTC(text) time_of(DER("\x17\x0D" text))
#define LONG_TIME(text) time_of(DER("\x18\x0F" text))

static void der_times(void **state)
{
    (void)state;
    assert_int_equal(UTC("700101000000Z"), 0);
    assert_int_equal(UTC("491231235959Z"), 2524607999);
    assert_int_equal(UTC("500101000000Z"), -631152000);
    assert_int_equal(UTC("000229120000Z"), 951825600);
    assert_int_equal(LONG_TIME("20500101000000Z"), 2524608000);
    assert_int_equal(LONG_TIME("99991231235959Z"), 253402300799);
    assert_int_equal(LONG_TIME("19700101000060Z"), INT64_MIN);   /* no leap seconds          */
    assert_int_equal(UTC("010229000000Z"), INT64_MIN);
    assert_int_equal(UTC("010431000000Z"), INT64_MIN);
    assert_int_equal(UTC("011301000000Z"), INT64_MIN);
    assert_int_equal(UTC("010001000000Z"), INT64_MIN);
    assert_int_equal(UTC("010100000000Z"), INT64_MIN);
    assert_int_equal(UTC("010101240000Z"), INT64_MIN);
    assert_int_equal(UTC("010101006000Z"), INT64_MIN);
    assert_int_equal(UTC("010101000061Z"), INT64_MIN);
    assert_int_equal(UTC("010101000000z"), INT64_MIN);
    assert_int_equal(UTC("01010100000 Z"), INT64_MIN);
    assert_int_equal(UTC("+1010100000.Z"), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x0B" "7001010000Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x18\x11" "19700101000000.5Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x16\x0D" "700101000000Z")), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x0D" "700101000000")), INT64_MIN);
    assert_int_equal(time_of(DER("\x17\x00")), INT64_MIN);
}

/* --- DER, written ------------------------------------------------------------------ */

static void written(void **state)
{
    static const size_t lengths[] = { 0, 1, 127, 128, 255, 256, 257, 65000 };
    static unsigned char bytes[70000], content[65536];
    (void)state;
    memset(content, 7, sizeof content);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        size_t mark = hsb__der_open(&out, HSB__DER_SEQUENCE);
        hsb__der_put_element(&out, HSB__DER_OCTETS, content, lengths[i]);
        hsb__der_close(&out, mark);
        assert_false(out.full);
        hsb_str rest = der_of(bytes, out.len), inner, got;
        assert_true(hsb__der_take(&rest, HSB__DER_SEQUENCE, &inner) && rest.len == 0);
        assert_true(hsb__der_take(&inner, HSB__DER_OCTETS, &got) && inner.len == 0);
        assert_int_equal(got.len, lengths[i]);
        assert_memory_equal(got.ptr, content, got.len);
        for (size_t size = out.len; size-- > (out.len > 300 ? out.len - 10 : 0);) {
            hsb__der_out small = { NULL, 0, size, false };
            small.bytes = (unsigned char *)guard_copy(content, size);
            mark = hsb__der_open(&small, HSB__DER_SEQUENCE);
            hsb__der_put_element(&small, HSB__DER_OCTETS, content, lengths[i]);
            hsb__der_close(&small, mark);
            assert_true(small.full);
        }
    }
}

static void written_oids(void **state)
{
    static const char *const texts[] = {
        "2.5.4.3", "1.2.840.113549.1.1.1", "0.0", "2.0", "2.999.3", "1.3.4294967295",
        "0.9.2342.19200300.100.1.25",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        unsigned char bytes[64];
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        hsb__der_put_oid(&out, texts[i]);
        hsb_str rest = der_of(bytes, out.len), oid;
        assert_true(hsb__der_take(&rest, HSB__DER_OID, &oid) && rest.len == 0);
        assert_string_equal(oid_of(oid), texts[i]);
    }
}

static void written_times(void **state)
{
    static const struct { int64_t seconds; unsigned tag; } times[] = {
        { 0, HSB__DER_UTC_TIME },          { -3600, HSB__DER_UTC_TIME },
        { 951825600, HSB__DER_UTC_TIME },  { 2524607999, HSB__DER_UTC_TIME },
        { 2524608000, HSB__DER_TIME },     { -631152000, HSB__DER_UTC_TIME },
        { -631152001, HSB__DER_TIME },     { 253402300799, HSB__DER_TIME },
    };
    unsigned char bytes[64];
    (void)state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        hsb__der_out out = { bytes, 0, sizeof bytes, false };
        hsb__der_put_time(&out, times[i].seconds);
        assert_int_equal(bytes[0], times[i].tag);
        assert_int_equal(time_of(der_of(bytes, out.len)), times[i].seconds);
    }
    hsb__der_out out = { bytes, 0, sizeof bytes, false };
    hsb__der_put_time(&out, 253402300800);
    assert_true(out.full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(der_lengths),
        cmocka_unit_test(der_elements),
        cmocka_unit_test(der_integers),
        cmocka_unit_test(der_oids),
        cmocka_unit_test(der_times),
        cmocka_unit_test(written),
        cmocka_unit_test(written_oids),
        cmocka_unit_test(written_times),
    };
    return cmocka_run_group_tests_name("der", tests, NULL, NULL);
}
