// Every product of matvec.c beside its definition, for processors that no Python runs on here: see test_arithmetic.py.
#include <stdio.h>

#include "matvec.c"

enum { N = 3, I = 352, O = 37, G = 32, GROUPS = I / G, D = 48, T = 19, H = 2 };
static uint32_t seed = 1;
static float draw(void) { return (float)(int32_t)(seed = seed * 1664525 + 1013904223) / 2147483648.f; }
static uint16_t rounded_to_bfloat16(float v) { uint32_t b; memcpy(&b, &v, 4); return (uint16_t)(b >> 16); }
static float of_one(uint16_t v) { const uint32_t b = (uint32_t)v << 16; float f; memcpy(&f, &b, 4); return f; }
static int wrong = 0;
static void compare(const char *what, const float *got, const double *exact, int count, double tolerance) {
    double worst = 0;
    for (int i = 0; i < count; i++)
        if (!(fabs(got[i] - exact[i]) <= worst)) worst = fabs(got[i] - exact[i]);
    printf("%s %g\n", what, worst);
    wrong |= !(worst < tolerance);
}

int main(void) {
    static float x[N * I], y[N * O], w[O * I], scale[O * GROUPS], offset[O * GROUPS];
    static uint16_t bf[O * I];
    static uint8_t f8[O * I], packed[O * I / 2];
    static int8_t codes[O * I];
    static double exact[4][N * O];
    for (int i = 0; i < N * I; i++) x[i] = draw();
    for (int i = 0; i < O * GROUPS; i++) scale[i] = draw() / 16, offset[i] = draw();
    for (int i = 0; i < O * I; i++) {
        w[i] = draw();
        bf[i] = rounded_to_bfloat16(w[i]);
        codes[i] = (int8_t)(w[i] * 127);
        f8[i] = (uint8_t)(seed >> 24);
        if ((f8[i] & 127) == 127) f8[i]--;
    }
    for (int o = 0; o < O; o++)
        for (int g = 0; g < GROUPS; g++)
            for (int j = 0; j < G / 2; j++)
                packed[(o * I + g * G) / 2 + j] = (uint8_t)((codes[o * I + g * G + j] & 15) | codes[o * I + g * G + j + G / 2] << 4);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++)
            for (int i = 0; i < I; i++) {
                const int c = f8[o * I + i], e = c >> 3 & 15, g = i / G;
                const double number = (e ? ldexp(8 + (c & 7), e - 10) : ldexp(c & 7, -9)) * (c & 128 ? -1 : 1), v = x[n * I + i];
                exact[0][n * O + o] += v * of_one(bf[o * I + i]);
                exact[1][n * O + o] += v * number;
                exact[2][n * O + o] += v * codes[o * I + i] * scale[o];
                exact[3][n * O + o] += v * ((codes[o * I + i] & 15) * scale[o * GROUPS + g] + offset[o * GROUPS + g]);
            }
    matvec_bfloat16(x, N, y, I, O, 2, (char *)bf);
    compare("bfloat16", y, exact[0], N * O, 1e-4);
    matvec_float8(x, N, y, I, O, 2, (char *)f8);
    compare("float8", y, exact[1], N * O, 0.05);
    matvec_int8(x, N, y, I, O, 2, (char *)codes, (char *)scale);
    compare("int8", y, exact[2], N * O, 0.05);
    matvec_int4(x, N, y, I, O, 2, (char *)packed, (char *)scale, (char *)offset, GROUPS, 0);
    compare("int4", y, exact[3], N * O, 0.02);
    static float scores[H * N * T], values[H * N * D];
    static double right[H * N * T], mixed[H * N * D];
    for (int h = 0; h < H; h++)
        for (int n = 0; n < N; n++)
            for (int t = 0; t < T; t++)
                for (int d = 0; d < D; d++) right[(h * N + n) * T + t] += x[(h * N + n) * D + d] * of_one(bf[(t * H + h) * D + d]);
    attention_scores(x, N, scores, D, T, 1, H, bf, 0, D, H * D, 2);
    compare("scores", scores, right, H * N * T, 1e-4);
    for (int h = 0; h < H; h++)
        for (int n = 0; n < N; n++)
            for (int t = 0; t < T; t++)
                for (int d = 0; d < D; d++) mixed[(h * N + n) * D + d] += scores[(h * N + n) * T + t] * of_one(bf[(t * H + h) * D + d]);
    attention_values(scores, N, values, D, T, 1, H, bf, 0, D, H * D, 2);
    compare("values", values, mixed, H * N * D, 1e-4);
    return wrong;
}
