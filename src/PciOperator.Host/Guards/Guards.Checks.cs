namespace PciOperator.Host;

/// <summary>The guards themselves. Each says the exact thing that is in use, and what frees the device.</summary>
internal sealed partial class Guards
{
    private const int NetworkClass = 0x02;
    private const uint InfiniBandClass = 0x0207;

    // Intel's data streaming and in-memory analytics accelerators: endpoints of the root complex, of the class of what a chipset is made
    // of.
    private static readonly string[] AcceleratorsOfRootBuses = ["8086:0b25", "8086:0cfe", "8086:1212", "8086:1216"];

    internal static bool IsNetwork(HostFunction f) => f.Function.ClassCode >> 16 == NetworkClass;

    /// <summary>
    /// Memory, bridges, base system peripherals and signal processing: what a chipset shows of itself is of these classes.
    /// </summary>
    internal static bool IsOfAChipset(uint classCode) => classCode >> 16 is 0x05 or 0x06 or 0x08 or 0x11;

    /// <summary>A bridge that isn't taken, and whose driver keeps VFIO from using its group; null when it doesn't.</summary>
    internal static GuardRefusal? SpoilsGroup(HostFunction bridge) =>
        VfioDrivers.LeavesGroupViable(bridge.Driver)
            ? null
            : new GuardRefusal(
                HoldingReasons.GroupNotViable,
                $"The bridge {bridge.Address} of IOMMU group {bridge.Function.IommuGroup} is on {bridge.Driver}, which keeps VFIO from using the group: unbind it (echo {bridge.Address} > /sys/bus/pci/drivers/{bridge.Driver}/unbind) or blacklist {bridge.Driver}."
            );

    private static string? MissingNode(HostFunction f, HostUse use, Guards _) =>
        use.DisksOf(f.Address).FirstOrDefault(d => !d.HasNode) is { } disk
            ? $"{f.Address} carries {disk.Name} ({disk.Number}), which isn't at {disk.Node} in the agent's /dev, so whether it is in use can't be seen: mount the host's /dev into the agent."
            : null;

    private static string? Mounted(HostFunction f, HostUse use, Guards _) =>
        (use.DisksOf(f.Address).Select(d => d.Mounted).FirstOrDefault(m => m is not null) ?? use.MountOf(f.Address)?.Text) is { } mounted
            ? $"{f.Address} carries {mounted}."
            : null;

    private static string? Swap(HostFunction f, HostUse use, Guards _) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.Swap is not null) is { } disk
            ? $"{f.Address} carries swap ({disk.Swap}): swapoff frees it."
            : null;

    private static string? Stacked(HostFunction f, HostUse use, Guards _) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.Stacked is not null) is { } disk
            ? $"{f.Address} carries {disk.Stacked}: take down what is built on it (vgchange --activate n, mdadm --stop, cryptsetup close, multipath -f, losetup --detach, …)."
            : null;

    private static string? Member(HostFunction f, HostUse use, Guards _) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.Member is not null) is { } disk
            ? $"{f.Address} carries {disk.Node}, {disk.Member}."
            : null;

    private static string? Exported(HostFunction f, HostUse use, Guards _) =>
        use.ServedBy(f.Address) is { } how ? $"{f.Address} {how}." : null;

    private static string? NetworkUse(HostFunction f, HostUse use, Guards _)
    {
        foreach (NetInterface net in use.InterfacesOf(f.Address))
        {
            string? has = net switch
            {
                { Address: { } address } =>
                    $"the address {address}{(net.Route is { } route ? " and " + route : "")}: when the host can do without, ip address flush dev {net.Name} frees it.",
                { Route: { } route } => $"{route}: when the host can do without, ip route flush dev {net.Name} frees it.",
                { LinkLocal: { } address } => $"only the link-local address {address}: ip link set {net.Name} down frees it.",
                _ => null,
            };
            if (has is not null)
                return $"{f.Address} is the host's interface {net.Name}, which has {has}";
        }

        return null;
    }

    private static string? UpperInterface(HostFunction f, HostUse use, Guards _) =>
        use.InterfacesOf(f.Address).FirstOrDefault(i => i.Upper is not null) is { } net
            ? $"{f.Address} is the host's interface {net.Name}, which is part of {net.Upper}: remove it from there first."
            : null;

    private static string? NetworkListener(HostFunction f, HostUse use, Guards _) =>
        use.InterfacesOf(f.Address).FirstOrDefault(i => i.Listener is not null) is { } net
            ? $"{f.Address} is the host's interface {net.Name}, which {net.Listener}."
            : null;

    /// <summary>
    /// A network driver without an interface here: it may be in a pod's network namespace. InfiniBand has interfaces only when IPoIB is
    /// loaded: without one it is an RDMA device, whose users have its nodes open, and other namespaces are looked at for each claim.
    /// </summary>
    private static string? HiddenInterface(HostFunction f, HostUse use, Guards _) =>
        IsNetwork(f)
        && f.Function.ClassCode >> 8 != InfiniBandClass
        && f.Driver is not null
        && !VfioDrivers.IsForUserSpace(f.Driver)
        && use.InterfacesOf(f.Address).Count == 0
            ? $"{f.Address} is bound to {f.Driver}, but its network interface isn't to be seen: it may be in a pod's network namespace. End that pod, or unbind {f.Driver} if nobody has it."
            : null;

    private static string? BootVga(HostFunction f, HostUse use, Guards _) =>
        f.BootVga
            ? $"{f.Address} is the display that the host booted with: choose another as the primary display in the firmware's setup."
            : null;

    private static string? Console(HostFunction f, HostUse use, Guards _) =>
        use.ConsoleOf(f.Address) is { } console ? $"{f.Address} carries {console}: give the host another console first." : null;

    private static string? MediatedDevice(HostFunction f, HostUse use, Guards _) =>
        use.MediatedDeviceOf(f.Address) is { } vgpu ? $"{f.Address} carries {vgpu}." : null;

    /// <summary>
    /// What the host itself is made of, whether a driver is bound or not (classes of the PCI code and ID assignment specification).
    /// </summary>
    private static string? SystemDevice(HostFunction f, HostUse use, Guards _)
    {
        uint code = f.Function.ClassCode >> 8;
        string? kind = code switch
        {
            0x0500 or 0x0501 when f.Driver is null && (f.IsOnRootBus || !f.HasMemoryBar) => "a memory controller",
            0x0880 or 0x1101 or 0x0680 when IsOfTheChipset(f) => "a part of the processor or chipset, on a root bus and without a driver",
            0x0502 => "CXL memory, which may be part of the host's memory",
            0x0800 or 0x0801 or 0x0802 or 0x0803 => "a controller of interrupts, DMA or timers",
            0x0804 => "a PCI hot-plug controller",
            0x0806 => "an IOMMU",
            0x0807 => "a root complex event collector",
            0x0c05 => "an SMBus controller, which reaches the host's memory modules and sensors",
            0x0c07 => "the IPMI interface to the host's management controller",
            _ => null,
        };
        return kind is null ? null : $"{f.Address} is {kind} (class {code:x4}): the host needs it.";
    }

    /// <summary>
    /// What processors and chipsets show of their insides (uncore, performance counters, mesh, power management) sits on root buses below
    /// no port, and mostly has no driver. Whatever does work for a host there has one.
    /// </summary>
    private static bool IsOfTheChipset(HostFunction f) =>
        f.IsOnRootBus && f.Driver is null && !AcceleratorsOfRootBuses.Contains($"{f.Function.VendorId}:{f.Function.ProductId}");

    private string? DeniedDriver(HostFunction f) =>
        f.Driver is { } driver && _denied.Contains(Spelling(driver))
            ? $"{f.Address} is on {driver}, and the host's own devices of that driver are never taken (denied drivers: the built-in list and --denied-drivers)."
            : null;
}
