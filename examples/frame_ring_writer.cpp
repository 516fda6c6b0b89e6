// A camera driver without a camera: writes a moving picture into a frame ring, as docs/frame-ring.md says.
//
//     g++ -std=c++17 -O2 -o frame_ring_writer frame_ring_writer.cpp
//     ./frame_ring_writer /dev/shm/octobev-front front 640 480 100 33 nv12
//
// Arguments: file of the ring, name of the camera, width, height, frames, milliseconds between two frames, and the pixel
// format: bgr8 (which is what it is without this argument), nv12 or yuyv. Then the ring stays until the standard input
// ends (Ctrl-D). Linux, little-endian.

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

constexpr std::size_t kPage = 4096;

struct RingHeader {
    std::atomic<std::uint64_t> magic;
    std::uint32_t version, header_bytes;
    std::uint64_t epoch, file_bytes, slot_bytes, payload_bytes;
    std::uint32_t slots, slot_header_bytes, writer_pid, reserved;
    char camera[128];
    char gap[256 - 192];
    std::atomic<std::uint64_t> head;
};
static_assert(offsetof(RingHeader, camera) == 64 && offsetof(RingHeader, head) == 256, "as documented");

struct SlotHeader {
    std::atomic<std::uint64_t> lock;
    std::int64_t timestamp_ns;
    std::uint64_t sequence;
    std::uint32_t pixel_format, flags, width, height;
    std::uint64_t stride_bytes, payload_bytes;
    double world_from_ego[12];
};
static_assert(offsetof(SlotHeader, world_from_ego) == 56 && sizeof(SlotHeader) == 152, "as documented");
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a lock of this process is none for another");

enum class PixelFormat : std::uint32_t { bgr8 = 1, rgb8 = 2, mono8 = 3, jpeg = 4, png = 5, nv12 = 6, yuyv = 7 };

// What lies in a slot: pixels in `rows` rows, `stride` bytes from each to the next.
struct Layout {
    PixelFormat format;
    std::uint32_t width, height;
    std::size_t stride, rows;
};

[[noreturn]] void fail(const std::string &what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

class FrameRingWriter {
public:
    FrameRingWriter(std::string path, const std::string &camera, std::uint32_t slots, std::size_t payload_bytes)
        : path_(std::move(path)), slots_(slots), slot_bytes_(kPage + (payload_bytes + kPage - 1) / kPage * kPage)
    {
        if (camera.empty() || camera.size() >= sizeof(RingHeader::camera))
            throw std::invalid_argument("name of the camera");
        create_locked();
        try {
            publish(camera, payload_bytes);
        } catch (...) {
            remove_own();
            throw;
        }
    }

    ~FrameRingWriter()
    {
        munmap(memory_, bytes_);
        remove_own();
    }

    FrameRingWriter(const FrameRingWriter &) = delete;
    FrameRingWriter &operator=(const FrameRingWriter &) = delete;

    // `fill` writes the pixels straight into the ring.
    template <typename Fill> void write(std::int64_t timestamp_ns, const Layout &layout, Fill fill)
    {
        unsigned char *start = memory_ + kPage + sequence_ % slots_ * slot_bytes_;
        auto *slot = reinterpret_cast<SlotHeader *>(start);
        slot->lock.store(2 * sequence_ + 1, std::memory_order_relaxed); // being written
        std::atomic_thread_fence(std::memory_order_release);            // nothing below is seen before that
        slot->timestamp_ns = timestamp_ns;
        slot->sequence = sequence_;
        slot->pixel_format = static_cast<std::uint32_t>(layout.format);
        slot->flags = 0; // no pose
        slot->width = layout.width;
        slot->height = layout.height;
        slot->stride_bytes = layout.stride;
        slot->payload_bytes = layout.rows * layout.stride;
        fill(start + kPage);
        slot->lock.store(2 * sequence_ + 2, std::memory_order_release); // whole
        ring_->head.store(++sequence_, std::memory_order_release);      // and shown
        syscall(SYS_futex, &ring_->head, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }

    static std::int64_t now_ns()
    {
        auto now = std::chrono::system_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    }

private:
    void publish(const std::string &camera, std::size_t payload_bytes)
    {
        bytes_ = kPage + slots_ * slot_bytes_;
        if ((errno = posix_fallocate(fd_, 0, static_cast<off_t>(bytes_))) != 0)
            fail("memory for " + path_);
        void *memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
        if (memory == MAP_FAILED)
            fail("mmap " + path_);
        memory_ = static_cast<unsigned char *>(memory);
        ring_ = reinterpret_cast<RingHeader *>(memory_);
        ring_->version = 1;
        ring_->header_bytes = ring_->slot_header_bytes = kPage;
        ring_->epoch = static_cast<std::uint64_t>(now_ns());
        ring_->file_bytes = bytes_;
        ring_->slot_bytes = slot_bytes_;
        ring_->payload_bytes = payload_bytes;
        ring_->slots = static_cast<std::uint32_t>(slots_);
        ring_->writer_pid = static_cast<std::uint32_t>(getpid());
        std::memcpy(ring_->camera, camera.data(), camera.size());
        std::uint64_t magic;
        std::memcpy(&magic, "OCTORING", sizeof magic);
        ring_->magic.store(magic, std::memory_order_release); // now it is a ring
    }

    // Whoever holds the lock of a file may remove it; a living writer holds its own.
    void create_locked()
    {
        for (int attempt = 0; attempt < 500; attempt++) {
            remove_abandoned();
            fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
            if (fd_ < 0 && errno != EEXIST)
                fail("create " + path_);
            struct stat status;
            if (fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) == 0 && fstat(fd_, &status) == 0 && status.st_nlink)
                return;
            if (fd_ >= 0)
                close(fd_);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        throw std::runtime_error(path_ + ": another writer has this ring");
    }

    void remove_abandoned() const
    {
        int old = open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (old < 0)
            return;
        struct stat status;
        std::uint64_t start = 0, magic;
        std::memcpy(&magic, "OCTORING", sizeof magic);
        if (fstat(old, &status) == 0 && S_ISREG(status.st_mode) && pread(old, &start, sizeof start, 0) >= 0 &&
            (start == magic || start == 0) && flock(old, LOCK_EX | LOCK_NB) == 0 && has_name(old))
            unlink(path_.c_str());
        close(old);
    }

    void remove_own() const
    {
        if (has_name(fd_))
            unlink(path_.c_str());
        close(fd_); // and with it the lock
    }

    bool has_name(int file) const
    {
        struct stat opened, named;
        return fstat(file, &opened) == 0 && lstat(path_.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
               opened.st_dev == named.st_dev;
    }

    std::string path_;
    std::uint64_t slots_, slot_bytes_, bytes_ = 0, sequence_ = 0;
    int fd_ = -1;
    unsigned char *memory_ = nullptr;
    RingHeader *ring_ = nullptr;
};

Layout layout_of(const std::string &format, std::uint32_t width, std::uint32_t height)
{
    auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; }; // rows that begin on a cache line
    if (format == "bgr8")
        return {PixelFormat::bgr8, width, height, aligned(width * 3), height};
    if (format == "nv12" && width % 2 == 0 && height % 2 == 0)
        return {PixelFormat::nv12, width, height, aligned(width), height + height / 2};
    if (format == "yuyv" && width % 2 == 0)
        return {PixelFormat::yuyv, width, height, aligned(width * 2), height};
    throw std::invalid_argument("pixel format, or an odd size");
}

// First channel (blue, or luma): column + frame. Second (green, or U): row, which two columns share. Third: frame.
void draw(unsigned char *pixels, const Layout &layout, unsigned long frame)
{
    for (std::uint32_t y = 0; y < layout.height; y++)
        for (std::uint32_t x = 0; x < layout.width; x++) {
            auto first = static_cast<unsigned char>(x + frame), second = static_cast<unsigned char>(y),
                 third = static_cast<unsigned char>(frame);
            unsigned char *row = pixels + y * layout.stride;
            if (layout.format == PixelFormat::bgr8) {
                row[3 * x] = first;
                row[3 * x + 1] = second;
                row[3 * x + 2] = third;
            } else if (layout.format == PixelFormat::yuyv) {
                row[2 * x] = first;
                row[2 * x + 1] = x % 2 ? third : second;
            } else {
                row[x] = first;
                if (y % 2 == 0)
                    pixels[(layout.height + y / 2) * layout.stride + x] = x % 2 ? third : second;
            }
        }
}

int main(int count, char **words)
try {
    if (count != 7 && count != 8) {
        std::fprintf(stderr, "usage: %s RING CAMERA WIDTH HEIGHT FRAMES PERIOD_MS [bgr8|nv12|yuyv]\n", words[0]);
        return 2;
    }
    auto width = static_cast<std::uint32_t>(std::stoul(words[3]));
    auto height = static_cast<std::uint32_t>(std::stoul(words[4]));
    auto frames = std::stoul(words[5]);
    std::chrono::milliseconds period(std::stoul(words[6]));
    Layout layout = layout_of(count == 8 ? words[7] : "bgr8", width, height);
    FrameRingWriter ring(words[1], words[2], 8, layout.rows * layout.stride);
    for (unsigned long frame = 0; frame < frames; frame++) {
        ring.write(FrameRingWriter::now_ns(), layout, [&](unsigned char *pixels) { draw(pixels, layout, frame); });
        std::this_thread::sleep_for(period);
    }
    std::puts("done");
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
