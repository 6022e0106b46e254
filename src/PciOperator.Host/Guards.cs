namespace PciOperator.Host;

/// <summary>A guard's no.</summary>
/// <param name="Guard">Its name.</param>
/// <param name="Sentence">Why, beginning with the function's address.</param>
internal sealed record GuardRefusal(string Guard, string Sentence);

/// <summary>
/// The checks that keep the host alive: each a small pure function of one PCI function and the host's use; the first that
/// refuses gives the reason. They refuse too much rather than too little.
/// </summary>
internal static class Guards
{
    public const string ForeignVfioBinding = HoldingReasons.ForeignVfioBinding;
    private const int NetworkClass = 0x02;

    private static readonly (string Name, Func<HostFunction, HostUse, string?> Check)[] All =
    [
        ("HostView", (_, use) => use.Blindness),
        ("UnsafeNoIommu", NoIommu),
        ("Mounted", Mounted),
        ("Swap", Swap),
        ("Stacked", Stacked),
        ("NetworkUse", NetworkUse),
        ("UpperInterface", UpperInterface),
        ("InterfaceUp", InterfaceUp),
        ("HiddenInterface", HiddenInterface),
        ("BootVga", BootVga),
    ];

    /// <summary>The first guard that refuses this function; <paramref name="ours"/> says that our journal holds it.</summary>
    public static GuardRefusal? Check(HostFunction function, HostUse use, bool ours)
    {
        foreach ((string name, Func<HostFunction, HostUse, string?> check) in All)
        {
            if (check(function, use) is { } sentence)
                return new GuardRefusal(name, sentence);
        }

        return ours || !VfioDrivers.IsForUserSpace(function.Driver)
            ? null
            : new GuardRefusal(ForeignVfioBinding, $"{function.Address} is on {function.Driver}, and this agent didn't bind it: somebody else uses it (a spec with managed: false may hand out what an administrator bound to vfio-pci).");
    }

    private static string? NoIommu(HostFunction f, HostUse use) => use.UnsafeNoIommu
        ? "VFIO runs in its unsafe mode without an IOMMU (enable_unsafe_noiommu_mode), where a guest can write to all of the host's memory: turn that mode off."
        : null;

    private static string? Mounted(HostFunction f, HostUse use) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.MountedAt is not null) is { } disk
            ? $"{f.Address} carries the file system that is mounted at {disk.MountedAt} ({disk.Name})."
            : null;

    private static string? Swap(HostFunction f, HostUse use) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.Swap) is { } disk
            ? $"{f.Address} carries swap ({disk.Name}): swapoff /dev/{disk.Name} frees it."
            : null;

    private static string? Stacked(HostFunction f, HostUse use) =>
        use.DisksOf(f.Address).FirstOrDefault(d => d.Holders.Count > 0) is { } disk
            ? $"{f.Address} carries {disk.Name}, on which {string.Join(", ", disk.Holders)} is built (device mapper, RAID, LVM, …)."
            : null;

    private static string? NetworkUse(HostFunction f, HostUse use) =>
        use.InterfacesOf(f.Address).FirstOrDefault(i => i.Use is not null) is { } net
            ? $"{f.Address} is the host's interface {net.Name}, which has {net.Use}."
            : null;

    private static string? UpperInterface(HostFunction f, HostUse use) =>
        use.InterfacesOf(f.Address).FirstOrDefault(i => i.Upper is not null) is { } net
            ? $"{f.Address} is the host's interface {net.Name}, which is part of {net.Upper}."
            : null;

    private static string? InterfaceUp(HostFunction f, HostUse use) =>
        use.InterfacesOf(f.Address).FirstOrDefault(i => i.Up) is { } net
            ? $"{f.Address} is the host's interface {net.Name}, which is up; if nothing uses it: ip link set {net.Name} down."
            : null;

    private static string? BootVga(HostFunction f, HostUse use) =>
        f.BootVga ? $"{f.Address} is the display that the host booted with." : null;

    /// <summary>A network driver without a netdev here: the netdev may be in a pod's network namespace.</summary>
    private static string? HiddenInterface(HostFunction f, HostUse use) =>
        f.Function.ClassCode >> 16 == NetworkClass && f.Driver is not null && !VfioDrivers.IsForUserSpace(f.Driver)
        && use.InterfacesOf(f.Address).Count == 0
            ? $"{f.Address} is bound to {f.Driver}, but its network interface isn't to be seen: it may be in a pod's network namespace."
            : null;
}
