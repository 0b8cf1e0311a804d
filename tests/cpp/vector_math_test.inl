// The body of vector_math_test.cpp, compiled once per instruction set.

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

  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 4096; i += kLanes<float>) store(&y[i], exp_nonpositive(load(&x[i])));
    best = std::fmin(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%s exp: %.2f ns per element\n", isa, best / 4096 * 1e9);
  best = 1e30;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < 4096; i += kLanes<float>) {
      const Normal<float> at = normal(load(&x[i]));
      store(&y[i], at.cdf);
      store(&z[i], at.pdf);
    }
    best = std::fmin(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%s normal: %.2f ns per element\n", isa, best / 4096 * 1e9);
}
