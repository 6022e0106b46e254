namespace PciOperator.Host;

/// <summary>A guard's no.</summary>
/// <param name="Guard">Its name.</param>
/// <param name="Sentence">Why, beginning with the function's address.</param>
internal sealed record GuardRefusal(string Guard, string Sentence);

/// <summary>What the guards say of a function.</summary>
/// <param name="Refusal">The first no that counts; null: free to take.</param>
/// <param name="Overridden">The first no that a person has overridden; null: none.</param>
internal readonly record struct GuardVerdict(GuardRefusal? Refusal, GuardRefusal? Overridden);

/// <summary>
/// The checks that keep the host alive: each a small pure function of one PCI function and the host's use; the first that
/// refuses gives the reason. They refuse too much rather than too little; a person can override them for one device, when the host
/// consents (<see cref="GuardConsent"/>), but for what the host can't be without.
/// </summary>
/// <param name="deniedDrivers">Drivers whose devices are never taken.</param>
internal sealed partial class Guards(IEnumerable<string> deniedDrivers)
{
    public const string ForeignVfioBinding = HoldingReasons.ForeignVfioBinding;

    private readonly HashSet<string> _denied = [.. deniedDrivers.Select(Spelling)];
    private volatile IReadOnlyList<GuardOverride> _overrides = [];
    private volatile GuardConsent? _consent;

    /// <summary>
    /// Guards in the order in which they are asked: first what nobody can override, then from the plainest to the most general.
    /// </summary>
    private static readonly (string Name, bool CanBeOverridden, Func<HostFunction, HostUse, Guards, string?> Check)[] All =
    [
        ("HostView", false, (_, use, _) => use.Blindness),
        ("UnsafeNoIommu", false, (_, use, _) => use.UnsafeNoIommu ? UnsafeNoIommu : null),
        ("HostView", false, MissingNode),
        ("Mounted", false, (f, use, guards) => use.IsVitalMount(f.Address) ? Mounted(f, use, guards) : null),
        (
            "Member",
            false,
            (f, use, guards) => use.DisksOf(f.Address).Any(d => d is { IsVital: true, Member: not null }) ? Member(f, use, guards) : null
        ),
        ("NetworkUse", false, (f, use, guards) => use.InterfacesOf(f.Address).Any(n => n.IsVital) ? NetworkUse(f, use, guards) : null),
        (
            "UpperInterface",
            false,
            (f, use, guards) => use.InterfacesOf(f.Address).Any(n => n.IsVital) ? UpperInterface(f, use, guards) : null
        ),
        ("Mounted", true, Mounted),
        ("Swap", true, Swap),
        ("Stacked", true, Stacked),
        ("Member", true, Member),
        ("Exported", true, Exported),
        ("NetworkUse", true, NetworkUse),
        ("UpperInterface", true, UpperInterface),
        ("NetworkListener", true, NetworkListener),
        ("HiddenInterface", true, HiddenInterface),
        ("BootVga", true, BootVga),
        ("Console", true, Console),
        ("MediatedDevice", true, MediatedDevice),
        (OfTheHost, true, SystemDevice),
        ("DeniedDriver", true, (f, _, guards) => guards.DeniedDriver(f)),
    ];

    private const string UnsafeNoIommu =
        "VFIO runs in its unsafe mode without an IOMMU (enable_unsafe_noiommu_mode), where a guest can write to all of the host's memory: turn that mode off.";

    /// <summary>What a person gives away nevertheless.</summary>
    public IReadOnlyList<GuardOverride> Overrides
    {
        get => _overrides;
        set => _overrides = [.. value];
    }

    /// <summary>What the host consents to being overridden; null: nothing.</summary>
    public GuardConsent? Consent
    {
        get => _consent;
        set => _consent = value;
    }

    /// <summary>Asks every guard until one refuses; <paramref name="ours"/> says that our journal holds the function.</summary>
    public GuardVerdict Check(HostFunction function, HostUse use, bool ours)
    {
        GuardRefusal? overridden = null;
        foreach ((string name, bool canBeOverridden, Func<HostFunction, HostUse, Guards, string?> check) in All)
        {
            if (check(function, use, this) is not { } sentence)
                continue;
            if (!canBeOverridden || !IsOverridden(function))
                return new GuardVerdict(new GuardRefusal(name, sentence + WhyNotOverridden(function, canBeOverridden)), overridden);
            overridden ??= new GuardRefusal(name, sentence);
        }

        return ours || !VfioDrivers.IsForUserSpace(function.Driver)
            ? new GuardVerdict(null, overridden)
            : new GuardVerdict(
                new GuardRefusal(
                    ForeignVfioBinding,
                    $"{function.Address} is on {function.Driver}, and this agent didn't bind it: somebody else uses it (a spec with managed: false may hand out what an administrator bound to vfio-pci)."
                ),
                overridden
            );
    }

    /// <summary>Whether a person gives this very device away.</summary>
    public bool IsOverridden(HostFunction function) => IsNamed(function) && _consent?.Allows(function.Address) == true;

    private bool IsNamed(HostFunction function) => _overrides.Any(o => o.Names(function.Function));

    /// <summary>For who has written an override that doesn't count.</summary>
    private string WhyNotOverridden(HostFunction function, bool canBeOverridden)
    {
        if (!IsNamed(function))
            return "";
        return canBeOverridden
            ? $" A PciDeviceSpec overrides this guard, which counts when the host consents: add a line {function.Address} to {_consent?.Path ?? "guard-overrides in the agent's state folder"} there."
            : " A PciDeviceSpec overrides this guard, and this can't be overridden: the host needs it.";
    }

    /// <summary>Kernel modules spell with underscores what their drivers may spell with hyphens.</summary>
    private static string Spelling(string driver) => driver.Trim().Replace('-', '_');
}
