using System.Runtime.InteropServices;

namespace PciOperator.Host;

/// <summary>The few system calls that .NET has no exact equivalent of.</summary>
internal static partial class Libc
{
    public const int O_RDONLY = 0;
    public const int O_WRONLY = 1;
    public const int O_RDWR = 2;
    public const int O_CREAT = 0x40;
    public const int O_EXCL = 0x80;
    public const int O_NONBLOCK = 0x800;
    public const int O_TRUNC = 0x200;
    public const int O_CLOEXEC = 0x80000;
    public const int LOCK_EX = 2;
    public const int LOCK_NB = 4;
    public const int F_DUPFD_CLOEXEC = 1030;
    public const int AT_FDCWD = -100;
    public const byte DT_UNKNOWN = 0;
    public const byte DT_DIR = 4;

    /// <summary>One of the few flags that arm64 numbers otherwise (there 0x10000 is O_DIRECT): Linux, arch/arm64/include/uapi/asm/fcntl.h.</summary>
    public static readonly int O_DIRECTORY = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;

    private const int AT_EMPTY_PATH = 0x1000;
    private const int AT_SYMLINK_NOFOLLOW = 0x100;
    private const int AT_NO_AUTOMOUNT = 0x800;
    private const int AT_STATX_DONT_SYNC = 0x4000;
    private const uint StatxTypeAndMode = 3;
    private const uint StatxInode = 0x100;
    private const int S_IFMT = 0xf000;
    private const int S_IFDIR = 0x4000;
    private const int S_IFCHR = 0x2000;
    private const int S_IFBLK = 0x6000;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static unsafe partial nint Read(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static unsafe partial nint Write(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "pwrite", SetLastError = true)]
    public static unsafe partial nint WriteAt(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport("libc", EntryPoint = "flock", SetLastError = true)]
    public static partial int Flock(int fd, int operation);

    // Variadic in C; see Ioctl.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Duplicate(int fd, int command, int atLeast);

    [LibraryImport("libc", EntryPoint = "pread", SetLastError = true)]
    public static unsafe partial nint ReadAt(int fd, byte* buffer, nuint count, long offset);

    // Variadic in C; with an integer or a pointer as its third argument the call is the same on Linux' 64-bit ABIs.
    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static unsafe partial int Ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "getdents64", SetLastError = true)]
    public static unsafe partial nint GetEntries(int folder, byte* entries, nuint size);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    public static partial int Fsync(int fd);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Rename(string from, string to);

    [LibraryImport("libc", EntryPoint = "unlink", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Unlink(string path);

    [LibraryImport("libc", EntryPoint = "mkdir", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MakeFolder(string path, int mode);

    [LibraryImport("libc", EntryPoint = "fchmod", SetLastError = true)]
    public static partial int ChangeMode(int fd, int mode);

    [LibraryImport("libc", EntryPoint = "rmdir", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int RemoveFolder(string path);

    [LibraryImport("libc", EntryPoint = "access", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Access(string path, int mode);

    [LibraryImport("libc", EntryPoint = "readlink", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static unsafe partial nint ReadLink(string path, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Statx(int folder, string path, int flags, uint mask, out StatxBuffer buffer);

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    public static partial int Socket(int domain, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    public static partial int Bind(int fd, in NetlinkAddress address, uint length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    public static partial int SetSocketOption(int fd, int level, int name, in int value, uint length);

    [LibraryImport("libc", EntryPoint = "recvfrom", SetLastError = true)]
    public static unsafe partial nint ReceiveFrom(
        int fd,
        byte* buffer,
        nuint size,
        int flags,
        ref NetlinkAddress from,
        ref uint fromLength
    );

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static unsafe partial int Poll(PollEntry* entries, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    public static partial int EventDescriptor(uint initial, int flags);

    /// <summary>The device number of the node at the path; null when it isn't a node; the errno in <paramref name="errno"/>.</summary>
    public static DeviceNumber? DeviceAt(string path, out int errno)
    {
        // Neither asks a file server that may be away nor mounts anything: a node's number is on the spot.
        if (Statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, StatxTypeAndMode, out StatxBuffer stat) != 0)
        {
            errno = Marshal.GetLastPInvokeError();
            return null;
        }

        errno = 0;
        return (stat.Mode & S_IFMT) switch
        {
            S_IFBLK => new DeviceNumber(true, stat.DeviceMajor, stat.DeviceMinor),
            S_IFCHR => new DeviceNumber(false, stat.DeviceMajor, stat.DeviceMinor),
            _ => null,
        };
    }

    /// <summary>What a loop device stands on; null when that is no block device; the errno in <paramref name="errno"/>.</summary>
    public static unsafe DeviceNumber? LoopedDevice(int fd, out int errno)
    {
        // struct loop_info64 (linux/loop.h): lo_device, lo_inode, lo_rdevice, … The kernel packs numbers as its huge_encode_dev does.
        const nuint getStatus = 0x4c05;
        const int size = 232;
        ulong* info = stackalloc ulong[size / sizeof(ulong)];
        errno = Ioctl(fd, getStatus, info) == 0 ? 0 : Marshal.GetLastPInvokeError();
        ulong device = errno == 0 ? info[2] : 0;
        return device == 0
            ? null
            : new DeviceNumber(true, (uint)((device & 0xfff00) >> 8), (uint)((device & 0xff) | ((device >> 12) & 0xfff00)));
    }

    /// <summary>Whether a folder is at the path: a link to one is none.</summary>
    public static bool IsFolder(string path) =>
        Statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, StatxTypeAndMode, out StatxBuffer stat) == 0
        && (stat.Mode & S_IFMT) == S_IFDIR;

    /// <summary>The inode of an open file; null when it can't be told.</summary>
    public static ulong? InodeOf(int fd) => Statx(fd, "", AT_EMPTY_PATH, StatxInode, out StatxBuffer stat) == 0 ? stat.Inode : null;

    /// <summary>The inode of what is at a path; null when nothing is.</summary>
    public static ulong? InodeAt(string path) => Statx(AT_FDCWD, path, 0, StatxInode, out StatxBuffer stat) == 0 ? stat.Inode : null;

    /// <summary>struct linux_dirent64: d_ino, d_off, d_reclen, d_type, then the name, up to a zero.</summary>
    [StructLayout(LayoutKind.Explicit)]
    public struct FolderEntry
    {
        public const int NameAt = 19;

        [FieldOffset(16)]
        public ushort Length;

        [FieldOffset(18)]
        public byte Type;
    }

    /// <summary>struct sockaddr_nl.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct NetlinkAddress
    {
        public ushort Family;
        public ushort Padding;
        public uint Pid;
        public uint Groups;
    }

    /// <summary>struct pollfd.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct PollEntry
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }

    /// <summary>struct statx: 256 bytes, the same on every architecture.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct StatxBuffer
    {
        [FieldOffset(28)]
        public ushort Mode;

        [FieldOffset(32)]
        public ulong Inode;

        [FieldOffset(128)]
        public uint DeviceMajor;

        [FieldOffset(132)]
        public uint DeviceMinor;
    }
}
