// A subscriber without any library, written from docs/topics.md alone. Prints one JSON object per message.
//
//   g++ -std=c++17 -O2 -o subscriber examples/subscriber.cpp
//   ./subscriber ipc:///tmp/octobev road_layout/ camera/front/      # prefixes; none: everything
//   ./subscriber tcp://127.0.0.1:5555 --count 10                    # ends after ten messages
//
// In four parts: ZMTP 3.1 over a socket, msgpack, a message of Octobev with its checks, and what is printed.

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays are little-endian: swap their bytes here"
#endif

using Bytes = std::string;

struct Disconnected : std::runtime_error { using std::runtime_error::runtime_error; };
struct Malformed : std::runtime_error { using std::runtime_error::runtime_error; };

template <class Error> void require(bool holds, const std::string& otherwise) {
    if (!holds) throw Error(otherwise);
}

uint64_t big_endian(const char* bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
}

// ---- ZMTP 3.1, mechanism NULL, as a SUB socket -----------------------------------------------------------------

constexpr uint64_t max_part_bytes = 64u << 20;
constexpr size_t max_parts = 18;

class Connection {
public:
    explicit Connection(const std::string& endpoint) : socket_(open(endpoint)) {
        const timeval silence{4, 0};  // the publisher asks every second whether we are there
        setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() { ::close(socket_); }

    void subscribe(const std::vector<std::string>& prefixes) {
        Bytes greeting(64, '\0');
        greeting[0] = '\xff', greeting[9] = '\x7f', greeting[10] = 3, greeting[11] = 1;
        greeting.replace(12, 4, "NULL");
        send(greeting);
        const Bytes theirs = read(64);
        require<Disconnected>(theirs[0] == '\xff' && theirs[9] == '\x7f', "not ZMTP");
        require<Disconnected>(theirs[10] == 3 && theirs[11] >= 1, "the peer speaks an older ZMTP than 3.1");
        require<Disconnected>(theirs.compare(12, 20, greeting, 12, 20) == 0, "the peer demands " + theirs.substr(12, 5));
        command("READY", Bytes("\x0bSocket-Type\0\0\0\3SUB", 19));
        const Frame ready = frame();
        require<Disconnected>(ready.is_command && ready.body.compare(0, 6, "\5READY") == 0, "the peer refused");
        for (const auto& prefix : prefixes) command("SUBSCRIBE", prefix);
    }

    std::vector<Bytes> message() {  // all parts of the next message
        std::vector<Bytes> parts;
        for (;;) {
            Frame next = frame();
            if (next.is_command) {
                if (next.body.compare(0, 5, "\4PING") == 0 && next.body.size() >= 7)
                    command("PONG", next.body.substr(7));  // two bytes of time to live, then the context to send back
                continue;
            }
            require<Disconnected>(parts.size() < max_parts, "a message of too many parts");
            parts.push_back(std::move(next.body));
            if (!next.more) return parts;
        }
    }

private:
    struct Frame { bool is_command, more; Bytes body; };

    static int open(const std::string& endpoint) {
        if (endpoint.rfind("ipc://", 0) == 0) {
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            require<std::invalid_argument>(endpoint.size() - 6 < sizeof address.sun_path, "path too long");
            std::strcpy(address.sun_path, endpoint.c_str() + 6);
            return connected(AF_UNIX, reinterpret_cast<sockaddr*>(&address), sizeof address);
        }
        const size_t colon = endpoint.rfind(':');
        require<std::invalid_argument>(endpoint.rfind("tcp://", 0) == 0 && colon > 6, "ipc://PATH or tcp://HOST:PORT");
        std::string host = endpoint.substr(6, colon - 6);
        if (host.front() == '[') host = host.substr(1, host.size() - 2);
        addrinfo hints{}, *found = nullptr;
        hints.ai_socktype = SOCK_STREAM;
        require<Disconnected>(getaddrinfo(host.c_str(), endpoint.c_str() + colon + 1, &hints, &found) == 0, "no such host");
        try {
            const int socket = connected(found->ai_family, found->ai_addr, found->ai_addrlen);
            freeaddrinfo(found);
            return socket;
        } catch (...) {
            freeaddrinfo(found);
            throw;
        }
    }

    static int connected(int family, const sockaddr* address, socklen_t size) {
        const int socket = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (socket < 0 || ::connect(socket, address, size) != 0) {
            const std::string why = std::strerror(errno);
            if (socket >= 0) ::close(socket);
            throw Disconnected(why);
        }
        return socket;
    }

    Frame frame() {
        const auto flags = static_cast<unsigned char>(read(1)[0]);  // 1: more follow, 2: size of 8 bytes, 4: command
        require<Disconnected>(flags <= 6 && (flags & 5) != 5, "a frame with unknown flags");
        const int width = flags & 2 ? 8 : 1;
        const uint64_t size = big_endian(read(width).data(), width);
        require<Disconnected>(size <= max_part_bytes, "a part of too many bytes");
        return {(flags & 4) != 0, (flags & 1) != 0, read(size)};
    }

    void command(const Bytes& name, const Bytes& data) {
        const Bytes body = static_cast<char>(name.size()) + name + data;
        if (body.size() < 256) return send(Bytes("\4") + static_cast<char>(body.size()) + body);
        Bytes size(8, '\0');
        for (int i = 0; i < 8; ++i) size[7 - i] = static_cast<char>(body.size() >> 8 * i);
        send(Bytes("\6") + size + body);
    }

    Bytes read(size_t count) {
        Bytes bytes(count, '\0');
        for (size_t done = 0; done < count;) {
            const ssize_t got = ::recv(socket_, bytes.data() + done, count - done, 0);
            if (got < 0 && errno == EINTR) continue;
            require<Disconnected>(got > 0, got == 0 ? "the publisher has gone" : "the publisher is silent");
            done += static_cast<size_t>(got);
        }
        return bytes;
    }

    void send(const Bytes& bytes) {
        for (size_t done = 0; done < bytes.size();) {
            const ssize_t sent = ::send(socket_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            require<Disconnected>(sent > 0, "the publisher has gone");
            done += static_cast<size_t>(sent);
        }
    }

    int socket_;
};

// ---- msgpack ---------------------------------------------------------------------------------------------------

struct Value {
    enum class Type { nil, boolean, integer, number, text, list, map, other } type = Type::nil;
    bool boolean = false;
    int64_t integer = 0;
    double number = 0;  // of integers too
    std::string text;
    std::vector<Value> items;
    std::map<std::string, Value> fields;

    const Value& operator[](const std::string& key) const {
        const auto found = fields.find(key);
        require<Malformed>(found != fields.end(), "the header has no " + key);
        return found->second;
    }
    const Value& as(Type wanted) const {
        require<Malformed>(type == wanted, "a header value of another type");
        return *this;
    }
    double real() const {  // a float may be written as an integer
        require<Malformed>(type == Type::number || type == Type::integer, "a header value that is no number");
        return number;
    }
};

class Unpacker {
public:
    explicit Unpacker(const Bytes& packed) : packed_(packed) {}

    Value all() {
        Value value = next(0);
        require<Malformed>(at_ == packed_.size(), "bytes after the header's map");
        return value;
    }

private:
    using Type = Value::Type;

    Value next(int depth) {
        require<Malformed>(depth < 32, "a header that is nested too deep");
        const auto tag = static_cast<unsigned char>(*take(1));
        if (tag < 0x80) return whole(tag);
        if (tag < 0x90) return map(tag & 0x0f, depth);
        if (tag < 0xa0) return list(tag & 0x0f, depth);
        if (tag < 0xc0) return text(tag & 0x1f);
        if (tag >= 0xe0) return whole(static_cast<int8_t>(tag));
        switch (tag) {
            case 0xc0: return {};
            case 0xc2: case 0xc3: { Value value; value.type = Type::boolean; value.boolean = tag == 0xc3; return value; }
            case 0xc4: case 0xc5: case 0xc6: return other(number(1 << (tag - 0xc4)));
            case 0xc7: case 0xc8: case 0xc9: return other(number(1 << (tag - 0xc7)) + 1);
            case 0xca: return real<float>(4);
            case 0xcb: return real<double>(8);
            case 0xcc: case 0xcd: case 0xce: return whole(static_cast<int64_t>(number(1 << (tag - 0xcc))));
            case 0xcf: {
                const uint64_t value = number(8);
                if (value <= INT64_MAX) return whole(static_cast<int64_t>(value));
                Value large; large.type = Type::number; large.number = static_cast<double>(value);
                return large;  // under a key that is not ours
            }
            case 0xd0: return whole(static_cast<int8_t>(number(1)));
            case 0xd1: return whole(static_cast<int16_t>(number(2)));
            case 0xd2: return whole(static_cast<int32_t>(number(4)));
            case 0xd3: return whole(static_cast<int64_t>(number(8)));
            case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: return other(1 + (1 << (tag - 0xd4)));
            case 0xd9: case 0xda: case 0xdb: return text(number(1 << (tag - 0xd9)));
            case 0xdc: case 0xdd: return list(number(2 << (tag - 0xdc)), depth);
            case 0xde: case 0xdf: return map(number(2 << (tag - 0xde)), depth);
        }
        throw Malformed("a header that is not msgpack");
    }

    const char* take(uint64_t count) {
        require<Malformed>(count <= packed_.size() - at_, "a header that ends too early");
        at_ += count;
        return packed_.data() + at_ - count;
    }
    uint64_t number(int width) { return big_endian(take(width), width); }

    static Value whole(int64_t integer) {
        Value value;
        value.type = Type::integer, value.integer = integer, value.number = static_cast<double>(integer);
        return value;
    }
    template <class Float> Value real(int width) {
        const uint64_t bits = number(width);  // the low bytes are the float's
        Float number;
        std::memcpy(&number, &bits, sizeof number);
        Value value;
        value.type = Type::number, value.number = static_cast<double>(number);
        return value;
    }
    Value text(uint64_t size) {
        Value value;
        value.type = Type::text, value.text = Bytes(take(size), size);
        return value;
    }
    Value other(uint64_t size) {  // binary and extensions: not ours, skipped
        take(size);
        Value value;
        value.type = Type::other;
        return value;
    }
    Value list(uint64_t count, int depth) {
        Value value;
        value.type = Type::list;
        for (uint64_t i = 0; i < count; ++i) value.items.push_back(next(depth + 1));
        return value;
    }
    Value map(uint64_t count, int depth) {
        Value value;
        value.type = Type::map;
        for (uint64_t i = 0; i < count; ++i) {
            const std::string key = next(depth + 1).as(Type::text).text;
            value.fields[key] = next(depth + 1);
        }
        return value;
    }

    const Bytes& packed_;
    size_t at_ = 0;
};

// ---- a message of Octobev --------------------------------------------------------------------------------------

struct Array {
    std::string name, dtype;
    std::vector<int64_t> shape;
    Bytes data;
};

struct Message {
    Value header;
    std::vector<Array> arrays;

    const Array& array(const std::string& name, const std::string& dtype, const std::vector<int64_t>& shape) const {
        for (const auto& array : arrays)
            if (array.name == name && array.dtype == dtype && array.shape == shape) return array;
        throw Malformed("no array " + name + " of the type and shape of its kind");
    }
};

uint32_t crc32(const char* bytes, size_t count, uint32_t crc = 0) {
    static const auto table = [] {
        std::array<uint32_t, 256> made{};
        for (uint32_t i = 0; i < 256; ++i) {
            made[i] = i;
            for (int bit = 0; bit < 8; ++bit) made[i] = made[i] >> 1 ^ (made[i] & 1 ? 0xEDB88320u : 0);
        }
        return made;
    }();
    crc = ~crc;
    for (size_t i = 0; i < count; ++i) crc = table[(crc ^ static_cast<unsigned char>(bytes[i])) & 255] ^ crc >> 8;
    return ~crc;
}

const std::map<std::string, size_t> item_sizes{
    {"bool", 1}, {"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4},
    {"uint64", 8}, {"int64", 8}, {"float16", 2}, {"float32", 4}, {"float64", 8}};

Array array_of(const Value& entry, Bytes part) {
    Array array{entry["name"].as(Value::Type::text).text, entry["dtype"].as(Value::Type::text).text, {}, std::move(part)};
    const auto item = item_sizes.find(array.dtype);
    require<Malformed>(item != item_sizes.end(), "an array of dtype " + array.dtype);
    const auto& sides = entry["shape"].as(Value::Type::list).items;
    require<Malformed>(sides.size() <= 8, "an array of too many axes");
    uint64_t bytes = item->second;
    for (const auto& side : sides) {
        array.shape.push_back(side.as(Value::Type::integer).integer);
        require<Malformed>(array.shape.back() >= 0, "an array with a negative side");
        require<Malformed>(!__builtin_mul_overflow(bytes, static_cast<uint64_t>(array.shape.back()), &bytes), "too large");
    }
    require<Malformed>(bytes == array.data.size(), "an array whose size is not that of its shape");
    if (array.dtype == "bool")
        for (const char element : array.data) require<Malformed>(element == 0 || element == 1, "a bool of neither 0 nor 1");
    return array;
}

Message decode(std::vector<Bytes> parts) {
    require<Malformed>(parts.size() >= 2, "a message of one part");
    const Bytes &topic = parts[0], &packed = parts[1];
    require<Malformed>(topic.size() >= 2 && topic.size() <= 256 && topic.back() == '/', "a topic without a slash");
    require<Malformed>(packed.size() > 5 && packed.size() <= 65536, "a header of a size that none has");
    uint32_t crc = crc32(packed.data(), packed.size() - 4, crc32(topic.data(), topic.size()));
    for (size_t i = 2; i < parts.size(); ++i) crc = crc32(parts[i].data(), parts[i].size(), crc);
    const char* stored = packed.data() + packed.size() - 4;
    require<Malformed>(stored[-1] == '\xce' && big_endian(stored, 4) == crc, "a wrong checksum");

    using Type = Value::Type;
    Message message{Unpacker(packed).all().as(Type::map), {}};
    const Value& header = message.header;
    require<Malformed>(header["schema"].as(Type::integer).integer == 1, "another version");
    require<Malformed>(header["topic"].as(Type::text).text + '/' == topic, "two topics");
    for (const char* key : {"kind", "session"}) header[key].as(Type::text);
    for (const char* key : {"sequence", "timestamp_ns"}) header[key].as(Type::integer);
    const bool valid = header["valid"].as(Type::boolean).boolean;
    const auto& entries = header["arrays"].as(Type::list).items;
    require<Malformed>(header["reason"].type == (valid ? Type::nil : Type::text), "valid with a reason, or not without");
    require<Malformed>(entries.size() == parts.size() - 2 && (valid || entries.empty()), "arrays and parts differ");
    for (size_t i = 0; i < entries.size(); ++i) {
        message.arrays.push_back(array_of(entries[i], std::move(parts[i + 2])));
        for (size_t j = 0; j < i; ++j)
            require<Malformed>(message.arrays[j].name != message.arrays[i].name, "two arrays of one name");
    }
    return message;
}

// ---- what is printed -------------------------------------------------------------------------------------------

double half(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 0    ? std::ldexp(fraction, -24)
                        : exponent == 31 ? (fraction ? NAN : INFINITY)
                                         : std::ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

template <class Item> double mean_of(const Bytes& data) {
    double sum = 0;
    for (size_t at = 0; at < data.size(); at += sizeof(Item)) {
        Item item;
        std::memcpy(&item, data.data() + at, sizeof item);  // parts may start at any address
        sum += static_cast<double>(item);
    }
    return sum / static_cast<double>(data.size() / sizeof(Item));
}

struct Half {
    uint16_t bits;
    explicit operator double() const { return half(bits); }
};

double mean(const Array& array) {
    static const std::map<std::string, double (*)(const Bytes&)> means{
        {"bool", mean_of<uint8_t>},    {"uint8", mean_of<uint8_t>},   {"int8", mean_of<int8_t>},
        {"uint16", mean_of<uint16_t>}, {"int16", mean_of<int16_t>},   {"uint32", mean_of<uint32_t>},
        {"int32", mean_of<int32_t>},   {"uint64", mean_of<uint64_t>}, {"int64", mean_of<int64_t>},
        {"float16", mean_of<Half>},    {"float32", mean_of<float>},   {"float64", mean_of<double>}};
    return means.at(array.dtype)(array.data);
}

// How far the road goes on ahead of the car along y = 0, through cells that are observed and drivable, metres.
double road_ahead_m(const Message& message) {
    using Type = Value::Type;
    const Value &header = message.header, &grid = header["grid"].as(Type::map);
    const double x_min_m = grid["x_min_m"].real(), y_min_m = grid["y_min_m"].real();
    const double resolution_m = grid["resolution_m"].real();
    const double rows = std::round((grid["x_max_m"].real() - x_min_m) / resolution_m);
    const double columns = std::round((grid["y_max_m"].real() - y_min_m) / resolution_m);
    require<Malformed>(resolution_m > 0 && rows >= 1 && rows < 1e6 && columns >= 1 && columns < 1e6, "no such grid");
    const auto nx = static_cast<int64_t>(rows), ny = static_cast<int64_t>(columns);
    const auto& classes = header["classes"].as(Type::list).items;
    const auto& probability = message.array("probability", "uint8", {static_cast<int64_t>(classes.size()), nx, ny});
    const auto& observed = message.array("observed", "bool", {nx, ny});
    int64_t drivable = 0;
    while (drivable < static_cast<int64_t>(classes.size()) && classes[drivable].text != "drivable") ++drivable;
    const auto j = static_cast<int64_t>(std::floor((0 - y_min_m) / resolution_m));
    const auto first = static_cast<int64_t>(std::floor((0 - x_min_m) / resolution_m));
    if (drivable == static_cast<int64_t>(classes.size()) || j < 0 || j >= ny || first < 0) return 0;
    int64_t i = first;
    while (i < nx && observed.data[i * ny + j] &&
           static_cast<unsigned char>(probability.data[(drivable * nx + i) * ny + j]) >= 128)
        ++i;
    return static_cast<double>(i - first) * resolution_m;
}

std::string quoted(const std::string& text) {
    std::string json = "\"";
    for (const char c : text) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned char>(c));
        if (c == '"' || c == '\\') json += std::string("\\") + c;
        else if (static_cast<unsigned char>(c) < 32) json += escaped;
        else json += c;
    }
    return json + '"';
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", value);
    return std::isfinite(value) ? text : "null";
}

std::string json(const Message& message, int64_t lost) {
    const Value& header = message.header;
    const Value& reason = header["reason"];
    std::string text = "{\"topic\": " + quoted(header["topic"].text) + ", \"kind\": " + quoted(header["kind"].text) +
                       ", \"sequence\": " + std::to_string(header["sequence"].integer) +
                       ", \"lost\": " + std::to_string(lost) +
                       ", \"timestamp_ns\": \"" + std::to_string(header["timestamp_ns"].integer) + '"' +
                       ", \"reason\": " + (reason.type == Value::Type::nil ? "null" : quoted(reason.text)) +
                       ", \"arrays\": [";
    for (const auto& array : message.arrays) {
        std::string shape;
        for (const int64_t side : array.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(side);
        char crc[9];
        std::snprintf(crc, sizeof crc, "%08x", crc32(array.data.data(), array.data.size()));
        text += std::string(&array == message.arrays.data() ? "" : ", ") + "{\"name\": " + quoted(array.name) +
                ", \"dtype\": \"" + array.dtype + "\", \"shape\": [" + shape + "], \"crc32\": \"" + crc +
                "\", \"mean\": " + number(array.data.empty() ? NAN : mean(array)) + '}';
    }
    text += ']';
    if (header["kind"].text == "road_layout" && reason.type == Value::Type::nil)
        text += ", \"road_ahead_m\": " + number(road_ahead_m(message));
    return text + '}';
}

// Counts what did not arrive, and knows what came before.
class Sequences {
public:
    int64_t lost = 0;  // before the message that was asked about

    bool is_new(const Value& header) {
        auto& [session, sequence] = seen_[header["topic"].text];
        const int64_t now = header["sequence"].integer, before = std::exchange(sequence, now);
        const bool same_session = std::exchange(session, header["session"].text) == header["session"].text;
        lost = same_session && now > before ? now - before - 1 : 0;
        return !same_session || now != before;
    }

private:
    std::map<std::string, std::pair<std::string, int64_t>> seen_;
};

int main(int count, char** arguments) {
    std::vector<std::string> prefixes;
    long left = -1;
    for (int i = 2; i < count; ++i) {
        if (std::string(arguments[i]) == "--count" && i + 1 < count) left = std::atol(arguments[++i]);
        else prefixes.emplace_back(arguments[i]);
    }
    if (count < 2) return std::fprintf(stderr, "usage: %s ENDPOINT [PREFIX ...] [--count N]\n", arguments[0]), 2;
    if (prefixes.empty()) prefixes.emplace_back();
    Sequences sequences;
    for (std::string told;;) {
        try {
            Connection connection(arguments[1]);
            connection.subscribe(prefixes);
            told.clear();
            while (left != 0) {
                try {
                    const Message message = decode(connection.message());
                    if (!sequences.is_new(message.header)) continue;
                    std::printf("%s\n", json(message, sequences.lost).c_str());
                    std::fflush(stdout);
                    --left;
                } catch (const Malformed& error) {
                    std::fprintf(stderr, "a message is skipped: %s\n", error.what());
                }
            }
            return 0;
        } catch (const Disconnected& error) {  // a publisher may come later, and again
            if (told != error.what()) std::fprintf(stderr, "%s: %s\n", arguments[1], (told = error.what()).c_str());
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        } catch (const std::exception& error) {
            return std::fprintf(stderr, "%s: %s\n", arguments[1], error.what()), 1;
        }
    }
}
