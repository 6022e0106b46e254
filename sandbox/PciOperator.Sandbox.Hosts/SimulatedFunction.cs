using System.Text.Json.Serialization;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>One PCI function of a simulated host: its hardware, and the state that the kernel keeps of it.</summary>
public sealed class SimulatedFunction
{
    /// <summary>"0000:21:00.0".</summary>
    public required string Address { get; set; }

    /// <summary>"8086:10c9".</summary>
    public required string Ids { get; set; }

    /// <summary>"8086:a03c"; null: the same as <see cref="Ids"/>.</summary>
    public string? SubsystemIds { get; set; }

    /// <summary>24 bits: 0x020000 is an Ethernet controller.</summary>
    public uint Class { get; set; }

    /// <summary>The bridge above; null: directly on the root bus.</summary>
    public string? Bridge { get; set; }

    /// <summary>-1: the firmware didn't say.</summary>
    public int Numa { get; set; } = -1;

    /// <summary>Its IOMMU group while the IOMMU is on; null: a group of its own.</summary>
    public int? Group { get; set; }

    /// <summary>The host driver that knows it; null: none does.</summary>
    public string? HostDriver { get; set; }

    /// <summary>The driver it is bound to now.</summary>
    public string? Driver { get; set; }

    /// <summary>driver_override.</summary>
    public string? Override { get; set; }

    /// <summary>The kernel's own reset_method; empty: no such file, and no reset file either.</summary>
    public string ResetMethods { get; set; } = "flr bus";

    /// <summary>What somebody wrote to reset_method; null: nothing, or "default".</summary>
    public string? ChosenResets { get; set; }

    /// <summary>Methods that answer with an errno; "vfio hot reset" too.</summary>
    public Dictionary<string, int> FailingResets { get; set; } = [];

    /// <summary>It binds, and can't be opened through VFIO: its BARs have no resources, say.</summary>
    public bool CannotBeEnabled { get; set; }

    /// <summary>Methods that say OK, and the device doesn't come back.</summary>
    public List<string> DeadAfterResets { get; set; } = [];

    /// <summary>A process has had it open through VFIO since it was last reset.</summary>
    public bool Dirty { get; set; }

    /// <summary>Resets that worked.</summary>
    public int Resets { get; set; }

    /// <summary>It was reset under a process that had it open.</summary>
    public bool ResetWhileOpen { get; set; }

    /// <summary>Device Serial Number capability, as eight bytes "a0369fffff123456"; null: none.</summary>
    public string? Serial { get; set; }

    /// <summary>Physical slot's name; null: none.</summary>
    public string? Slot { get; set; }

    /// <summary>The display that the host booted with.</summary>
    public bool BootVga { get; set; }

    /// <summary>SR-IOV of a PF; null: none.</summary>
    public SimulatedSriov? Sriov { get; set; }

    /// <summary>A VF's PF.</summary>
    public string? PhysFn { get; set; }

    /// <summary>A VF's number on its PF.</summary>
    public int VfIndex { get; set; }

    /// <summary>A VF's settings on its PF; null: the PF's driver keeps none (not a NIC). They go with the VF.</summary>
    public VfSettings? VfSettings { get; set; }

    /// <summary>The VF's MAC was set through its PF: the VF's own driver takes it, and can't change it.</summary>
    public bool MacByPf { get; set; }

    /// <summary>Interfaces that its host driver makes.</summary>
    public List<SimulatedInterface> Interfaces { get; set; } = [];

    /// <summary>Block devices that its host driver makes.</summary>
    public List<SimulatedDisk> Disks { get; set; } = [];

    /// <summary>Character devices that its host driver makes ("dri/card0", "snd/controlC0").</summary>
    public List<SimulatedNode> Nodes { get; set; } = [];

    /// <summary>The driver that the kernel is unbinding, while a user of the device keeps it from finishing.</summary>
    public string? UnbindingFrom { get; set; }

    /// <summary>Drivers whose probe fails (and says OK, as the kernel does).</summary>
    public List<string> FailingDrivers { get; set; } = [];

    /// <summary>Its PCI Express link; null: none (a conventional device). A VF has none of its own.</summary>
    public SimulatedLink? Link { get; set; } = new();

    /// <summary>Errors that it has reported; null: it can't report any (no AER). A VF has no counters of its own.</summary>
    public SimulatedErrors? Errors { get; set; } = new();

    /// <summary>power/runtime_status: "active" or "suspended".</summary>
    public string RuntimeStatus { get; set; } = "active";

    /// <summary>power_state: "D0", "D3hot" or "D3cold".</summary>
    public string PowerState { get; set; } = "D0";

    /// <summary>It has fallen off the bus: whatever is read from it is all ones; the kernel hasn't noticed.</summary>
    public bool OffTheBus { get; set; }

    /// <summary>Some write of the kernel's is under way that holds the device's lock.</summary>
    [JsonIgnore]
    internal bool Locked { get; set; }

    [JsonIgnore]
    internal PciAddress At => PciAddress.Parse(Address);

    [JsonIgnore]
    internal bool IsBridge => Class >> 16 == 0x06 && (Class & 0xff00) <= 0x0700;

    [JsonIgnore]
    internal bool HasHostDriver => Driver is not null && Driver == HostDriver;

    [JsonIgnore]
    internal bool OnVfio => VfioDrivers.IsVfio(Driver ?? UnbindingFrom);
}

/// <summary>A simulated PCI Express link.</summary>
public sealed class SimulatedLink
{
    /// <summary>current_link_speed, GT/s.</summary>
    public double Speed { get; set; } = 8.0;

    /// <summary>max_link_speed, GT/s.</summary>
    public double MaxSpeed { get; set; } = 8.0;

    /// <summary>current_link_width, lanes.</summary>
    public int Width { get; set; } = 8;

    /// <summary>max_link_width, lanes.</summary>
    public int MaxWidth { get; set; } = 8;
}

/// <summary>Advanced Error Reporting counters of a simulated function.</summary>
public sealed class SimulatedErrors
{
    /// <summary>TOTAL_ERR_COR.</summary>
    public long Correctable { get; set; }

    /// <summary>TOTAL_ERR_NONFATAL.</summary>
    public long Nonfatal { get; set; }

    /// <summary>TOTAL_ERR_FATAL.</summary>
    public long Fatal { get; set; }
}

/// <summary>SR-IOV of a simulated PF.</summary>
public sealed class SimulatedSriov
{
    /// <summary>sriov_totalvfs.</summary>
    public int Total { get; set; }

    /// <summary>sriov_numvfs.</summary>
    public int NumVfs { get; set; }

    /// <summary>VFs' product, "10ca".</summary>
    public required string VfProduct { get; set; }

    /// <summary>VFs' host driver.</summary>
    public string? VfDriver { get; set; }

    /// <summary>sriov_offset: routing id of the first VF, from the PF's.</summary>
    public int Offset { get; set; } = 128;

    /// <summary>sriov_stride: routing ids between VFs.</summary>
    public int Stride { get; set; } = 1;

    /// <summary>
    /// The VFs' IOMMU group, for all of them: the PF's where nothing above the card has ACS; null: each has one of its own.
    /// </summary>
    public int? VfGroup { get; set; }

    /// <summary>sriov_drivers_autoprobe.</summary>
    public bool Autoprobe { get; set; } = true;

    /// <summary>Bytes that VF 0 has received as the PF's driver counts, and each further one as many more; 0: the driver counts nothing.</summary>
    public long CountedBytes { get; set; }

    /// <summary>What the PF's driver has counted of a VF.</summary>
    public VfTraffic TrafficOf(int vf)
    {
        ulong bytes = (ulong)(CountedBytes * (vf + 1));
        return CountedBytes == 0 ? default : new VfTraffic(bytes / 1000, bytes / 4000, bytes, bytes / 4, (ulong)vf, 0);
    }

    /// <summary>What the PF's driver answers to a number of VFs above 0 (ENOSPC, ENOMEM, …); 0: it makes them.</summary>
    public int Errno { get; set; }

    /// <summary>The PF's driver makes no more than this without an error; null: as many as are asked for.</summary>
    public int? Most { get; set; }

    /// <summary>VFs are counted at once, and appear with <see cref="SimulatedHost.ShowVfs"/>.</summary>
    public bool Slow { get; set; }

    /// <summary>VF settings that the PF's driver refuses with EOPNOTSUPP: "mac", "vlan", "rate", "spoofchk", "state", "trust".</summary>
    public List<string> RefusedSettings { get; set; } = [];
}

/// <summary>A network interface of a simulated host.</summary>
public sealed class SimulatedInterface
{
    /// <summary>"eno1".</summary>
    public required string Name { get; set; }

    /// <summary>Administratively up.</summary>
    public bool Up { get; set; }

    /// <summary>Has an IPv4 address.</summary>
    public bool Address { get; set; }

    /// <summary>Has the link-local address that the kernel gives to what is up.</summary>
    public bool LinkLocal { get; set; }

    /// <summary>Has an IPv4 route in a table of its own.</summary>
    public bool PolicyRoute { get; set; }

    /// <summary>A packet socket is bound to it.</summary>
    public bool PacketSocket { get; set; }

    /// <summary>A protocol handler of the kernel's that is bound to it ("fcoe_rcv [fcoe]").</summary>
    public string? Protocol { get; set; }

    /// <summary>An XDP program is attached.</summary>
    public bool Xdp { get; set; }

    /// <summary>Somebody takes every frame.</summary>
    public bool Promiscuous { get; set; }

    /// <summary>ARPHRD_…: Ethernet; 280 is CAN.</summary>
    public int HardwareType { get; set; } = 1;

    /// <summary>The default route goes through <see cref="Master"/> or <see cref="Upper"/>.</summary>
    public bool UpperRoute { get; set; }

    /// <summary>
    /// Of <see cref="Master"/> or <see cref="Upper"/>: "bridge", "team", "openvswitch", "macvlan", …; null: bond, or vlan.
    /// </summary>
    public string? UpperKind { get; set; }

    /// <summary>Has the default route (and then an IPv4 address).</summary>
    public bool DefaultRoute { get; set; }

    /// <summary>Has an IPv4 route to a subnet.</summary>
    public bool Route { get; set; }

    /// <summary>Has an IPv6 route.</summary>
    public bool Route6 { get; set; }

    /// <summary>Has an IPv6 address.</summary>
    public bool Address6 { get; set; }

    /// <summary>The bond or bridge it is part of.</summary>
    public string? Master { get; set; }

    /// <summary>A VLAN or macvlan on top of it.</summary>
    public string? Upper { get; set; }

    /// <summary>Moved into a pod's network namespace: not to be seen from the host's.</summary>
    public bool InPod { get; set; }
}

/// <summary>A block device of a simulated host; its partitions are entries of their own.</summary>
public sealed class SimulatedDisk
{
    /// <summary>"nvme0n1" or "nvme0n1p2".</summary>
    public required string Name { get; set; }

    /// <summary>The disk that a partition is on.</summary>
    public string? PartitionOf { get; set; }

    /// <summary>Minor number (major 259).</summary>
    public int Minor { get; set; }

    /// <summary>Where PID 1 sees it mounted.</summary>
    public string? MountedAt { get; set; }

    /// <summary>Its file system shows a device number of its own in mountinfo, as btrfs does.</summary>
    public bool AnonymousMount { get; set; }

    /// <summary>It is swap space.</summary>
    public bool Swap { get; set; }

    /// <summary>Claimed in the kernel without a trace in sysfs: ZFS, or a mount in another namespace.</summary>
    public bool Claimed { get; set; }

    /// <summary>Under a virtual NVMe subsystem (native multipath) instead of its controller.</summary>
    public bool Multipath { get; set; }

    [JsonIgnore]
    internal bool InUse => MountedAt is not null || Swap || Claimed;
}

/// <summary>A virtual block device of a simulated host: device mapper, LVM, md, multipath, bcache.</summary>
public sealed class SimulatedStack
{
    /// <summary>"dm-0", "md0".</summary>
    public required string Name { get; set; }

    /// <summary>The names of the block devices that it stands on.</summary>
    public required List<string> On { get; set; }

    /// <summary>Device mapper's name: "vg-root".</summary>
    public string? MapperName { get; set; }

    /// <summary>Where PID 1 sees it mounted.</summary>
    public string? MountedAt { get; set; }

    /// <summary>It is swap space.</summary>
    public bool Swap { get; set; }

    /// <summary>Those below don't name it as their holder.</summary>
    public bool WithoutHolders { get; set; }

    /// <summary>Minor number (major 253).</summary>
    public int Minor { get; set; }
}

/// <summary>A character device node of a simulated host.</summary>
/// <param name="Name">Below /dev: "dri/card0".</param>
/// <param name="Major">Of its device number.</param>
/// <param name="Minor">Of its device number.</param>
public sealed record SimulatedNode(string Name, int Major, int Minor);
