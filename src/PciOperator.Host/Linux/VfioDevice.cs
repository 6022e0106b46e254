using System.Buffers.Binary;
using System.Runtime.InteropServices;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// One function opened through VFIO's group interface (linux/vfio.h), as a VMM opens it: container, group, type 1 IOMMU,
/// device. A group has one user at a time, so nobody else may have it open. The kernel resets the function, where it can, when
/// it is opened and when it is closed.
/// </summary>
/// <remarks>Kernels that offer iommufd device nodes only (CONFIG_VFIO_GROUP=n) have no groups to open.</remarks>
public sealed class VfioDevice : IDisposable
{
    /// <summary>Where the container node and the groups' nodes are.</summary>
    public const string Folder = "/dev/vfio";

    // _IO(';', 100 + n): no size or direction is encoded.
    private const int SetIommu = 0x3b66;
    private const int SetContainer = 0x3b68;
    private const int GetDeviceFd = 0x3b6a;
    private const int GetRegionInfo = 0x3b6c;
    private const int GetHotResetInfo = 0x3b70;
    private const int PciHotReset = 0x3b71;
    private const int Type1V2Iommu = 3;
    private const int ConfigRegion = 7;

    private const int MostFunctions = 4096;

    private readonly PciAddress _function;
    private readonly List<int> _groups = [];
    private int _container = -1;
    private int _device = -1;

    private VfioDevice(PciAddress function) => _function = function;

    /// <summary>Opens a function that is bound to a vfio driver.</summary>
    /// <param name="function">The function.</param>
    /// <param name="groups">Its IOMMU group, then others that a hot reset needs as proof of ownership.</param>
    /// <param name="folder"><see cref="Folder"/>, as this process sees it.</param>
    /// <exception cref="HostIoException">EBUSY: a group is open elsewhere; EPERM: a member of a group is on a host driver.</exception>
    public static unsafe VfioDevice Open(PciAddress function, IReadOnlyList<int> groups, string folder = Folder)
    {
        var opened = new VfioDevice(function);
        try
        {
            opened._container = OpenNode($"{folder}/vfio");
            foreach (int group in groups.Distinct())
            {
                string node = $"{folder}/{group}";
                int fd = OpenNode(node);
                opened._groups.Add(fd);
                int container = opened._container;
                if (Libc.Ioctl(fd, SetContainer, &container) != 0)
                {
                    throw Error(
                        "VFIO_GROUP_SET_CONTAINER of",
                        node,
                        "a member of the group is on a host driver, or the group is not isolated"
                    );
                }

                if (opened._groups.Count == 1 && Libc.Ioctl(opened._container, SetIommu, (void*)Type1V2Iommu) != 0)
                    throw Error("VFIO_SET_IOMMU of", node, "without interrupt remapping vfio_iommu_type1 needs allow_unsafe_interrupts=1");
            }

            nint name = Marshal.StringToCoTaskMemUTF8(function.ToString());
            try
            {
                opened._device = Libc.Ioctl(opened._groups[0], GetDeviceFd, (void*)name);
            }
            finally
            {
                Marshal.FreeCoTaskMem(name);
            }

            if (opened._device < 0)
                throw Error("VFIO_GROUP_GET_DEVICE_FD of", function.ToString(), null);
            return opened;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>Configuration space as VFIO shows it to a guest (a VF's ids are filled in), from its beginning.</summary>
    /// <param name="count">At most so many bytes; fewer when the function has less.</param>
    /// <exception cref="HostIoException">What the kernel said.</exception>
    public unsafe byte[] ReadConfig(int count)
    {
        // struct vfio_region_info: argsz, flags, index, cap_offset, u64 size, u64 offset.
        Span<byte> info = stackalloc byte[32];
        BinaryPrimitives.WriteInt32LittleEndian(info, info.Length);
        BinaryPrimitives.WriteInt32LittleEndian(info[8..], ConfigRegion);
        fixed (byte* p = info)
        {
            if (Libc.Ioctl(_device, GetRegionInfo, p) != 0)
                throw Error("VFIO_DEVICE_GET_REGION_INFO of", _function.ToString(), null);
        }

        long size = BinaryPrimitives.ReadInt64LittleEndian(info[16..]);
        long offset = BinaryPrimitives.ReadInt64LittleEndian(info[24..]);
        byte[] config = new byte[Math.Min(size, count)];
        int length = 0;
        while (length < config.Length)
        {
            nint n;
            fixed (byte* p = config)
                n = Libc.ReadAt(_device, p + length, (nuint)(config.Length - length), offset + length);
            if (n < 0 && Marshal.GetLastPInvokeError() == Errnos.EINTR)
                continue;
            if (n < 0)
                throw Error("reading the configuration space of", _function.ToString(), null);
            if (n == 0)
                break;
            length += (int)n;
        }

        return config[..length];
    }

    /// <summary>The functions that <see cref="HotReset"/> hits, this one included, by address.</summary>
    /// <exception cref="HostIoException">ENODEV: neither slot nor bus can be reset.</exception>
    public unsafe IReadOnlyList<PciAddress> HotResetTargets()
    {
        // struct vfio_pci_hot_reset_info: argsz, flags, count; then group_id, u16 segment, u8 bus, u8 devfn each.
        const int header = 12,
            entry = 8;
        for (int room = 32; ; )
        {
            byte[] info = new byte[header + (entry * room)];
            BinaryPrimitives.WriteInt32LittleEndian(info, info.Length);
            int result;
            fixed (byte* p = info)
                result = Libc.Ioctl(_device, GetHotResetInfo, p);
            int count = BinaryPrimitives.ReadInt32LittleEndian(info.AsSpan(8));
            if (result != 0 && Marshal.GetLastPInvokeError() == Errnos.ENOSPC && count > room && count <= MostFunctions)
            {
                room = count;
                continue;
            }

            if (result != 0)
            {
                throw Error(
                    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO of",
                    _function.ToString(),
                    Marshal.GetLastPInvokeError() == Errnos.ENODEV ? "neither its slot nor its bus can be reset" : null
                );
            }

            var targets = new List<PciAddress>();
            for (int at = header; targets.Count < count && at < info.Length; at += entry)
            {
                byte devfn = info[at + 7];
                targets.Add(
                    new PciAddress(BinaryPrimitives.ReadUInt16LittleEndian(info.AsSpan(at + 4)), info[at + 6], devfn >> 3, devfn & 7)
                );
            }

            targets.Sort();
            return targets;
        }
    }

    /// <summary>
    /// Resets the function's slot or bus; every function that is hit must be on a vfio driver and in one of the opened groups.
    /// </summary>
    /// <exception cref="HostIoException">What the kernel said.</exception>
    public unsafe void HotReset()
    {
        // struct vfio_pci_hot_reset: argsz, flags, count; then the groups' file descriptors.
        const int header = 12;
        byte[] request = new byte[header + (4 * _groups.Count)];
        BinaryPrimitives.WriteInt32LittleEndian(request, request.Length);
        BinaryPrimitives.WriteInt32LittleEndian(request.AsSpan(8), _groups.Count);
        for (int i = 0; i < _groups.Count; i++)
            BinaryPrimitives.WriteInt32LittleEndian(request.AsSpan(header + (4 * i)), _groups[i]);
        fixed (byte* p = request)
        {
            if (Libc.Ioctl(_device, PciHotReset, p) != 0)
                throw Error("VFIO_DEVICE_PCI_HOT_RESET of", _function.ToString(), null);
        }
    }

    /// <summary>Closes device, groups and container, in this order.</summary>
    public void Dispose()
    {
        Close(ref _device);
        for (int i = 0; i < _groups.Count; i++)
            _ = Libc.Close(_groups[i]);
        _groups.Clear();
        Close(ref _container);
    }

    private static void Close(ref int fd)
    {
        if (fd >= 0)
            _ = Libc.Close(fd);
        fd = -1;
    }

    private static int OpenNode(string path)
    {
        int fd = Libc.Open(path, Libc.O_RDWR | Libc.O_CLOEXEC, 0);
        return fd >= 0 ? fd : throw Error("open", path, Marshal.GetLastPInvokeError() == Errnos.EBUSY ? "a process has it open" : null);
    }

    private static HostIoException Error(string operation, string path, string? advice)
    {
        int errno = Marshal.GetLastPInvokeError();
        string said = $"{operation} {path}: {Errnos.Name(errno)} ({Errnos.Text(errno)})";
        return new HostIoException(operation, path, errno, advice is null ? said + "." : $"{said}; {advice}.");
    }
}
