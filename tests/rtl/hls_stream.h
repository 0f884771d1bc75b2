// A channel for the RTL check, in the place of the vendor's: processes run one after the other, so
// it holds all that one of them writes in a recorded run.
#pragma once

namespace hls {

template <class T>
class stream {
 public:
  stream() : head_(0), tail_(0) {}
  bool empty() const { return head_ == tail_; }
  void write(const T &value) {
    values_[tail_] = value;
    ++tail_;
  }
  T read() {
    const T value = values_[head_];
    ++head_;
    return value;
  }
  bool read_nb(T &value) {
    if (empty()) return false;
    value = read();
    return true;
  }

 private:
  T values_[ZIPML_CHANNEL_ENTRIES];
  unsigned head_;
  unsigned tail_;
};

}  // namespace hls
