// The body of vector_math_test.cpp, compiled once per instruction set.
// clang-format off
#include "../../csrc/cpu/simd.inl"
#include "../../csrc/cpu/vector_math.inl"
#include "../../csrc/cpu/transpose.inl"
#include "../../csrc/cpu/dropout_bits.inl"
// clang-format on

// Blocks turned, masks and bits: what each width does in a way of its own.
void run_lanes(const char* isa) {
  constexpr int kL = kLanes<float>;
  float block[kL * kL], turned[kL * kL];
  const float* rows[kL];
  for (int i = 0; i < kL * kL; ++i) block[i] = static_cast<float>(i);
  for (int r = 0; r < kL; ++r) rows[r] = block + r * kL;
  turn_block<float>(rows, 0, turned, kL);
  bool good = true;
  for (int i = 0; i < kL * kL; ++i) good &= turned[i] == block[i % kL * kL + i / kL];
  expect(good, isa, "a block turned", good);
  for (int n = 0; n <= kL; ++n) {
    const uint32_t wanted = static_cast<uint32_t>((uint64_t{1} << n) - 1);
    good &= lane_bits<float>(first_lanes<float>(n)) == wanted;
    good &= lane_bits<float>(load_first(block + 1, n) != Vec<float>{}) == wanted;
    store(turned, broadcast(7.0f));
    store_first(turned, broadcast(8.0f), n);
    for (int i = 0; i < kL; ++i) good &= turned[i] == (i < n ? 8.0f : 7.0f);
  }
  expect(good, isa, "the first lanes", good);
  const uint8_t bits[8] = {0x5a, 0xc3, 0x0f, 0x99, 0x12, 0xff, 0x00, 0x81};
  uint64_t all;
  std::memcpy(&all, bits, sizeof(all));
  for (int group = 0; group < 64 / kL; ++group) {
    const uint64_t wanted = all >> (group * kL) & ((uint64_t{1} << kL) - 1);
    good &= lane_bits<float>(keep_lanes<float>(bits, group)) == wanted;
  }
  expect(good, isa, "lanes kept", good);
}

void run(const char* isa) {
  constexpr int n = 1 << 16;
  std::vector<float> x(n), y(n), z(n);
  double worst_exp = 0, worst_cdf = 0, worst_pdf = 0, worst_double = 0;
  for (int i = 0; i < n; ++i) x[i] = -87.0f + 175.0f * static_cast<float>(i) / n;
  for (int i = 0; i < n; i += kLanes<float>) store(&y[i], exp(load(&x[i])));
  for (int i = 0; i < n; ++i) {
    const double truth = std::exp(static_cast<double>(x[i]));
    worst_exp = std::fmax(worst_exp, std::fabs(y[i] - truth) / truth);
  }
  for (int i = 0; i < n; ++i) x[i] = -10.0f + 20.0f * static_cast<float>(i) / n;
  for (int i = 0; i < n; i += kLanes<float>) {
    const Normal<float> at = normal(load(&x[i]));
    store(&y[i], at.cdf);
    store(&z[i], at.pdf);
  }
  for (int i = 0; i < n; ++i) {
    const double v = x[i];
    worst_cdf = std::fmax(worst_cdf, std::fabs(y[i] - 0.5 * std::erfc(-v / std::sqrt(2.0))));
    worst_pdf = std::fmax(worst_pdf, std::fabs(z[i] - 0.3989422804014327 * std::exp(-v * v / 2)));
  }
  for (int i = 0; i < 64; ++i) {
    const double v = -8.0 + 0.25 * i;
    const double cdf = normal(broadcast(v)).cdf[0];
    worst_double = std::fmax(worst_double, std::fabs(cdf - 0.5 * std::erfc(-v / std::sqrt(2.0))));
    worst_double = std::fmax(worst_double, std::fabs(exp(broadcast(v))[0] / std::exp(v) - 1));
  }
  expect(worst_exp < 1.2e-7, isa, "exp, relative error", worst_exp);
  expect(worst_cdf < 1.1e-7, isa, "normal cdf, absolute error", worst_cdf);
  expect(worst_pdf < 6e-8, isa, "normal pdf, absolute error", worst_pdf);
  expect(worst_double < 1e-15, isa, "double, error", worst_double);

  const float inf = std::numeric_limits<float>::infinity();
  uint32_t bits = 0x7fc00123u;  // a NaN with a payload
  float payload;
  std::memcpy(&payload, &bits, sizeof(payload));
  const auto exp1 = [](float v) { return exp(broadcast(v))[0]; };
  expect(exp1(-inf) == 0.0f, isa, "exp(-inf)", exp1(-inf));
  expect(exp1(-1e4f) == 0.0f, isa, "exp(-1e4)", exp1(-1e4f));
  expect(exp1(0.0f) == 1.0f, isa, "exp(0)", exp1(0.0f));
  expect(exp1(-0.0f) == 1.0f, isa, "exp(-0)", exp1(-0.0f));
  expect(exp1(inf) == inf, isa, "exp(inf)", exp1(inf));
  expect(exp1(1e4f) == inf, isa, "exp(1e4)", exp1(1e4f));
  expect(std::isnan(exp1(payload)), isa, "exp(NaN)", exp1(payload));
  expect(std::isnan(exp1(-std::nanf(""))), isa, "exp(-NaN)", exp1(-std::nanf("")));
  expect(std::isnan(normal(broadcast(payload)).cdf[1]), isa, "cdf(NaN)", 0);
  expect(normal(broadcast(-inf)).cdf[0] == 0.0f, isa, "cdf(-inf)", normal(broadcast(-inf)).cdf[0]);
  expect(normal(broadcast(inf)).cdf[0] == 1.0f, isa, "cdf(inf)", normal(broadcast(inf)).cdf[0]);

  float buffer[16];
  for (int i = 0; i < 16; ++i) buffer[i] = static_cast<float>(i + 1);
  expect(lane_sum<float>(load_first(buffer, 3)) == 6.0f, isa, "sum of the first 3", 6);
  expect(lane_max<float>(load(buffer)) == kLanes<float>, isa, "largest lane", kLanes<float>);
  store_first(buffer + 8, broadcast(-1.0f), 2);
  expect(buffer[8] == -1.0f && buffer[9] == -1.0f && buffer[10] == 11.0f, isa, "first 2 stored", 2);
  expect(fma(broadcast(2.0f), broadcast(3.0f), broadcast(4.0f))[0] == 10.0f, isa, "fma", 10);
  expect(max(broadcast(1.0), broadcast(2.0))[0] == 2.0, isa, "max", 2);

  run_lanes(isa);

  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 4096; i += kLanes<float>) store(&y[i], exp_nonpositive(load(&x[i])));
    best = std::fmin(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%s exp: %.3f ns per element\n", isa, best / 4096 * 1e9);
  best = 1e30;
  for (int i = 0; i < n; ++i) x[i] = -130.0f * static_cast<float>(i) / n;
  double worst_exp2 = 0;
  for (int i = 0; i < n; i += 4 * kLanes<float>) {
    Vec<float> four[4];
    for (int j = 0; j < 4; ++j) four[j] = load(&x[i + j * kLanes<float>]);
    exp2_nonpositive(four);
    for (int j = 0; j < 4; ++j) store(&y[i + j * kLanes<float>], four[j]);
  }
  for (int i = 0; i < n; ++i) {
    const double truth = std::exp2(static_cast<double>(x[i]));
    if (x[i] >= -126.0f) worst_exp2 = std::fmax(worst_exp2, std::fabs(y[i] - truth) / truth);
    if (x[i] < -126.6f) worst_exp2 = std::fmax(worst_exp2, y[i]);
  }
  expect(worst_exp2 < 1e-7, isa, "exp2, relative error", worst_exp2);
  const auto exp2 = [](float v) { return exp2_nonpositive<float>(broadcast(v))[1]; };
  expect(exp2(-inf) == 0.0f, isa, "exp2(-inf)", exp2(-inf));
  expect(exp2(std::numeric_limits<float>::lowest()) == 0.0f, isa, "exp2(lowest)", 0);
  expect(exp2(0.0f) == 1.0f, isa, "exp2(0)", exp2(0.0f));
  expect(std::isnan(exp2(payload)), isa, "exp2(NaN)", exp2(payload));
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 4096; i += 4 * kLanes<float>) {
      Vec<float> four[4];
      for (int j = 0; j < 4; ++j) four[j] = load(&x[i + j * kLanes<float>]);
      exp2_nonpositive(four);
      for (int j = 0; j < 4; ++j) store(&y[i + j * kLanes<float>], four[j]);
    }
    best = std::fmin(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%s exp2: %.3f ns per element\n", isa, best / 4096 * 1e9);
  best = 1e30;
  for (int repeat = 0; repeat < 200; ++repeat) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 4096; i += kLanes<float>) {
      const Normal<float> at = normal(load(&x[i]));
      store(&y[i], at.cdf);
      store(&z[i], at.pdf);
    }
    best = std::fmin(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%s normal: %.3f ns per element\n", isa, best / 4096 * 1e9);
}
