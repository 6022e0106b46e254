using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>A host's PCI functions and the facts around them, as seen at one moment.</summary>
public sealed record HostSnapshot
{
    /// <summary>All PCI functions, bridges included, by address.</summary>
    public required IReadOnlyList<HostFunction> Functions { get; init; }

    /// <summary>As uname -r.</summary>
    public required string KernelVersion { get; init; }

    /// <summary>/proc/sys/kernel/random/boot_id: another one after each boot.</summary>
    public required string BootId { get; init; }

    /// <summary>The socket of each NUMA node that has CPUs; null: not known.</summary>
    public IReadOnlyDictionary<int, int?> NumaNodes { get; init; } = new Dictionary<int, int?>();

    /// <summary>Whether the host isolates devices.</summary>
    public required IommuFacts Iommu { get; init; }

    /// <summary>Whether devices can be handed out.</summary>
    public required VfioFacts Vfio { get; init; }

    /// <summary>What of the host helps or hinders passthrough: each becomes a condition.</summary>
    public IReadOnlyList<HostFact> Facts { get; init; } = [];

    /// <summary>What couldn't be read, one sentence each; the functions concerned are left out.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];
}

/// <summary>One PCI function and how the host uses it.</summary>
public sealed record HostFunction
{
    /// <summary>What the allocator and the specs look at.</summary>
    public required PciFunction Function { get; init; }

    /// <summary>The function's address.</summary>
    public PciAddress Address => Function.Address;

    /// <summary>The driver bound to it; null when none.</summary>
    public string? Driver { get; init; }

    /// <summary>The root bus that it hangs on, such as "pci0000:64"; null when sysfs doesn't say.</summary>
    public string? PcieRoot { get; init; }

    /// <summary>driver_override; null when not set.</summary>
    public string? DriverOverride { get; init; }

    /// <summary>VFs that a PF has now; null for what isn't a PF.</summary>
    public int? NumVfs { get; init; }

    /// <summary>sriov_drivers_autoprobe of a PF: whether its VFs get their host driver; null for what isn't a PF.</summary>
    public bool? VfsAutoprobe { get; init; }

    /// <summary>The kernel's reset methods in its order of preference (flr, pm, bus, …); it may list what doesn't work.</summary>
    public IReadOnlyList<string> ResetMethods { get; init; } = [];

    /// <summary>"Vendor Device" from pci.ids; null when unknown.</summary>
    public string? Name { get; init; }

    /// <summary>"/dev/vfio/13" while the group has it; null otherwise.</summary>
    public string? VfioGroupNode { get; init; }

    /// <summary>The function's iommufd node, "/dev/vfio/devices/vfio0"; null when the kernel has none.</summary>
    public string? VfioDeviceNode { get; init; }

    /// <summary>The guard that refuses (see <see cref="GuardReason"/>), for example "Mounted" or "ForeignVfioBinding".</summary>
    public string? GuardName { get; init; }

    /// <summary>
    /// Why it is not to be taken: the first guard that refuses, on any member of its IOMMU group, as a sentence. Null: free
    /// to take. Files that processes hold open are looked at only when a claim is prepared.
    /// </summary>
    public string? GuardReason { get; init; }

    /// <summary>The host is made of it: a part of the processor or chipset that nobody would give away.</summary>
    public bool IsOfTheHost { get; init; }

    /// <summary>
    /// What a guard said of this function that a person has overridden (<see cref="PassthroughHost.GuardOverrides"/>); null: nothing.
    /// </summary>
    public string? Overridden { get; init; }

    /// <summary>
    /// Why it is not to be offered although nothing uses it (used once, not clean, can't be reset, doesn't answer), as a sentence; null:
    /// nothing is against it.
    /// </summary>
    public string? Withheld { get; init; }

    /// <summary>One word for <see cref="Withheld"/>: "UsedOnce", "NotClean", "NoReset", "ConfigSpaceGone" or "NotAnswering".</summary>
    public string? WithheldBy { get; init; }

    /// <summary>
    /// Why no VFIO driver of this kernel binds it (the driver's own denylist, or an attempt that failed), as a sentence; null: nothing is
    /// known against it.
    /// </summary>
    public string? Unbindable { get; init; }

    /// <summary>
    /// The reset that has worked on this device ("flr", "pm", "bus", "vfio hot reset"); null: none has been tried, or none works.
    /// </summary>
    public string? ProvenReset { get; init; }

    /// <summary>What is wrong with it without keeping it from its users: errors it reports, a link below its capability.</summary>
    public IReadOnlyList<DeviceProblem> Problems { get; init; } = [];

    /// <summary>The kernel still has what was done to it: it never left the bus.</summary>
    internal bool IsStillOurs => DriverOverride is not null || VfioDrivers.IsVfio(Driver);

    /// <summary>All that it can be known by; <see cref="PciFunction.StableId"/> is the best of it.</summary>
    internal Evidence? Evidence { get; init; }

    /// <summary>The display that the firmware and the kernel's console used at boot.</summary>
    internal bool BootVga { get; init; }

    /// <summary>
    /// Below no port, and no further function of a card: a part of the root complex itself, or (in a virtual machine) put there by the
    /// hypervisor.
    /// </summary>
    internal bool IsOnRootBus { get; init; }

    /// <summary>It has memory of its own behind a BAR; read only of what calls itself memory.</summary>
    internal bool HasMemoryBar { get; init; }
}

/// <summary>Something wrong with one device.</summary>
/// <param name="Type">"ConfigSpaceGone", "AerErrors" or "LinkDegraded".</param>
/// <param name="Message">A sentence.</param>
public sealed record DeviceProblem(string Type, string Message);

/// <summary>A fact of the host, in the words of a condition.</summary>
/// <param name="Type">The condition's type, such as "KernelLockdown".</param>
/// <param name="Status">True, false, or null when it can't be known.</param>
/// <param name="Reason">One word.</param>
/// <param name="Message">What is so, and what to change if it hinders.</param>
public sealed record HostFact(string Type, bool? Status, string Reason, string Message);

/// <summary>The host's IOMMU.</summary>
public sealed record IommuFacts
{
    /// <summary>Devices are in IOMMU groups that isolate them.</summary>
    public required bool Enabled { get; init; }

    /// <summary>Number of groups.</summary>
    public required int Groups { get; init; }

    /// <summary>When not enabled: what is missing and what to change, in a sentence.</summary>
    public string? WhyNot { get; init; }
}

/// <summary>The host's VFIO.</summary>
public sealed record VfioFacts
{
    /// <summary>vfio-pci can take devices, or will after modprobe.</summary>
    public bool Ready => Loaded || Loadable;

    /// <summary>The vfio-pci driver is there.</summary>
    public required bool Loaded { get; init; }

    /// <summary>modprobe vfio-pci would find it.</summary>
    public required bool Loadable { get; init; }

    /// <summary>/dev/vfio/vfio, the container node, is there.</summary>
    public required bool ControlNode { get; init; }

    /// <summary>/dev/iommu is there.</summary>
    public required bool Iommufd { get; init; }

    /// <summary>When not ready: what to change, in a sentence.</summary>
    public string? WhyNot { get; init; }
}
