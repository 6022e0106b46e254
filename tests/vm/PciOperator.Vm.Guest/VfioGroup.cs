using System.Runtime.InteropServices;
using System.Text;

namespace PciOperator.Vm.Guest;

/// <summary>An IOMMU group opened as a virtual machine monitor opens it: group, container, IOMMU, then each device.</summary>
internal sealed unsafe class VfioGroup : IDisposable
{
    private const ulong FirstAddress = 0x100000;
    private readonly int _group;
    private readonly int _container;
    private readonly Dictionary<string, int> _devices = [];
    private ulong _nextAddress = FirstAddress;

    private VfioGroup(string number)
    {
        _group = Native.Open("/dev/vfio/" + number);
        var status = new GroupStatus { ArgumentSize = (uint)sizeof(GroupStatus) };
        Native.Control(_group, Native.VFIO_GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS");
        if ((status.Flags & 1) == 0)
            throw new IOException($"group {number} is not viable");
        _container = Native.Open("/dev/vfio/vfio");
        int version = Native.Control(_container, Native.VFIO_GET_API_VERSION, 0, "VFIO_GET_API_VERSION");
        if (version != 0)
            throw new IOException($"VFIO's API has version {version} instead of 0");
        fixed (int* container = &_container)
            Native.Control(_group, Native.VFIO_GROUP_SET_CONTAINER, container, "VFIO_GROUP_SET_CONTAINER");
        Native.Control(_container, Native.VFIO_SET_IOMMU, Native.VFIO_TYPE1v2_IOMMU, "VFIO_SET_IOMMU");
    }

    public static VfioGroup Open(string number, IEnumerable<string> addresses)
    {
        var group = new VfioGroup(number);
        foreach (string address in addresses)
        {
            fixed (byte* name = Encoding.ASCII.GetBytes(address + "\0"))
            {
                group._devices[address] = Native.Control(
                    group._group,
                    Native.VFIO_GROUP_GET_DEVICE_FD,
                    name,
                    $"VFIO_GROUP_GET_DEVICE_FD {address}"
                );
            }
        }

        return group;
    }

    /// <summary>The device that was opened first.</summary>
    public int First => _devices.Values.First();

    /// <summary>Prints one line a device, "0000:81:00.0 8086:10c9 9 regions", and maps a page for DMA and back.</summary>
    public void Describe()
    {
        foreach ((string address, int device) in _devices)
        {
            var info = new DeviceInfo { ArgumentSize = (uint)sizeof(DeviceInfo) };
            Native.Control(device, Native.VFIO_DEVICE_GET_INFO, &info, "VFIO_DEVICE_GET_INFO");
            uint ids = Native.Read(device, Region(device, Native.VFIO_PCI_CONFIG_REGION_INDEX), 4);
            Console.WriteLine($"{address} {ids & 0xffff:x4}:{ids >> 16:x4} {info.Regions} regions");
        }

        Native.Pages(1, out nint page);
        Unmap(Map(page, 1), 1);
        Console.WriteLine("DMA mapped");
    }

    /// <summary>Closes the descriptors without ending what they hold open: they are on their way through a socket.</summary>
    public void Hide()
    {
        int[] all = [_group, _container, .. _devices.Values];
        Native.SendAway(all);
        foreach (int descriptor in all)
            Native.Close(descriptor);
    }

    /// <summary>Where a region begins in the device's file.</summary>
    public static ulong Region(int device, uint index)
    {
        var region = new RegionInfo { ArgumentSize = (uint)sizeof(RegionInfo), Index = index };
        Native.Control(device, Native.VFIO_DEVICE_GET_REGION_INFO, &region, $"VFIO_DEVICE_GET_REGION_INFO {index}");
        return region.Offset;
    }

    /// <summary>Lets the group's devices reach some pages.</summary>
    /// <returns>The address that they see.</returns>
    public ulong Map(nint memory, int pages)
    {
        var map = new DmaMap
        {
            ArgumentSize = (uint)sizeof(DmaMap),
            Flags =
                3 /* read, write */
            ,
            Memory = (ulong)memory,
            Address = _nextAddress,
            Size = (ulong)(pages * Native.PageSize),
        };
        Native.Control(_container, Native.VFIO_IOMMU_MAP_DMA, &map, "VFIO_IOMMU_MAP_DMA");
        _nextAddress += map.Size;
        return map.Address;
    }

    public void Unmap(ulong address, int pages)
    {
        var unmap = new DmaUnmap
        {
            ArgumentSize = (uint)sizeof(DmaUnmap),
            Address = address,
            Size = (ulong)(pages * Native.PageSize),
        };
        Native.Control(_container, Native.VFIO_IOMMU_UNMAP_DMA, &unmap, "VFIO_IOMMU_UNMAP_DMA");
        if (unmap.Size != (ulong)(pages * Native.PageSize))
            throw new IOException($"VFIO_IOMMU_UNMAP_DMA unmapped {unmap.Size} bytes");
    }

    public void Dispose()
    {
        foreach (int device in _devices.Values)
            Native.Close(device);
        Native.Close(_group);
        Native.Close(_container);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GroupStatus
    {
        public uint ArgumentSize,
            Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DeviceInfo
    {
        public uint ArgumentSize,
            Flags,
            Regions,
            Interrupts,
            Capabilities,
            Padding;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RegionInfo
    {
        public uint ArgumentSize,
            Flags,
            Index,
            Capabilities;
        public ulong Size,
            Offset;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DmaMap
    {
        public uint ArgumentSize,
            Flags;
        public ulong Memory,
            Address,
            Size;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DmaUnmap
    {
        public uint ArgumentSize,
            Flags;
        public ulong Address,
            Size;
    }
}
