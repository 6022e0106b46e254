using System.Runtime.InteropServices;

namespace PciOperator.Vm.Guest;

/// <summary>
/// System calls, and VFIO's requests as linux/vfio.h has them. Each failure is an <see cref="IOException"/> with the errno's name.
/// </summary>
internal static unsafe partial class Native
{
    public const int VFIO_GET_API_VERSION = 0x3b64;
    public const int VFIO_CHECK_EXTENSION = 0x3b65;
    public const int VFIO_SET_IOMMU = 0x3b66;
    public const int VFIO_GROUP_GET_STATUS = 0x3b67;
    public const int VFIO_GROUP_SET_CONTAINER = 0x3b68;
    public const int VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
    public const int VFIO_DEVICE_GET_INFO = 0x3b6b;
    public const int VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
    public const int VFIO_IOMMU_MAP_DMA = 0x3b71;
    public const int VFIO_IOMMU_UNMAP_DMA = 0x3b72;
    public const int VFIO_TYPE1v2_IOMMU = 3;
    public const int VFIO_PCI_CONFIG_REGION_INDEX = 7;

    public const int PageSize = 4096;

    private static readonly Dictionary<int, string> Errnos = new()
    {
        [1] = "EPERM",
        [2] = "ENOENT",
        [16] = "EBUSY",
        [19] = "ENODEV",
        [22] = "EINVAL",
    };

    public static int Open(string path) =>
        Checked(
            open(
                path,
                2 /* O_RDWR */
            ),
            $"open {path}"
        );

    public static int Control(int fd, nuint request, void* argument, string what) => Checked(ioctl(fd, request, argument), what);

    public static int Control(int fd, nuint request, nint argument, string what) => Checked(ioctl(fd, request, (void*)argument), what);

    /// <summary>Another program takes this one's place, and has its files open.</summary>
    public static void Become(string program, params ReadOnlySpan<string> arguments)
    {
        byte** all = stackalloc byte*[arguments.Length + 2];
        all[0] = (byte*)Marshal.StringToCoTaskMemUTF8(program);
        for (int i = 0; i < arguments.Length; i++)
            all[i + 1] = (byte*)Marshal.StringToCoTaskMemUTF8(arguments[i]);
        all[arguments.Length + 1] = null;
        Checked(execv(all[0], all), program);
    }

    public static void Close(int fd) => _ = close(fd);

    /// <summary>Little-endian, as the device's registers are.</summary>
    public static uint Read(int fd, ulong offset, int size)
    {
        uint value = 0;
        if (pread(fd, &value, (nuint)size, (long)offset) != size)
            throw Failure($"read {size} bytes at {offset:x}");
        return value;
    }

    public static void Write(int fd, ulong offset, ulong value, int size)
    {
        if (pwrite(fd, &value, (nuint)size, (long)offset) != size)
            throw Failure($"write {size} bytes at {offset:x}");
    }

    /// <summary>Memory at page boundaries that stays where it is.</summary>
    public static Span<byte> Pages(int count, out nint address)
    {
        const int readWrite = 3,
            privateAnonymous = 0x22;
        address = mmap(0, (nuint)(count * PageSize), readWrite, privateAnonymous, -1, 0);
        return address == -1 ? throw Failure("mmap") : new Span<byte>((void*)address, count * PageSize);
    }

    /// <summary>Sends descriptors into a socket that nobody reads: they stay open, and no process has them.</summary>
    public static void SendAway(ReadOnlySpan<int> descriptors)
    {
        const int unixDatagram = 2,
            rights = 1,
            solSocket = 1,
            headerSize = 16;
        int* pair = stackalloc int[2];
        Checked(socketpair(1, unixDatagram, 0, pair), "socketpair");
        byte payload = 1;
        var vector = new IoVector { Base = &payload, Length = 1 };
        byte* control = stackalloc byte[headerSize + 64];
        *(nuint*)control = (nuint)(headerSize + descriptors.Length * sizeof(int));
        ((int*)control)[2] = solSocket;
        ((int*)control)[3] = rights;
        descriptors.CopyTo(new Span<int>(control + headerSize, descriptors.Length));
        var message = new MessageHeader
        {
            Vectors = &vector,
            VectorCount = 1,
            Control = control,
            ControlLength = *(nuint*)control,
        };
        if (sendmsg(pair[0], &message, 0) < 0)
            throw Failure("sendmsg");
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int execv(byte* path, byte** arguments);

    private static int Checked(int result, string what) => result >= 0 ? result : throw Failure(what);

    private static IOException Failure(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new IOException($"{what}: {Errnos.GetValueOrDefault(errno, $"errno {errno}")}");
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int open(string path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int close(int fd);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(int fd, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pread(int fd, void* buffer, nuint size, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pwrite(int fd, void* buffer, nuint size, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint mmap(nint address, nuint size, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socketpair(int domain, int type, int protocol, int* pair);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint sendmsg(int fd, MessageHeader* message, int flags);

    [StructLayout(LayoutKind.Sequential)]
    private struct IoVector
    {
        public void* Base;
        public nuint Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Vectors;
        public nuint VectorCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
