namespace PciOperator.Cli.Vms;

/// <summary>A VM, what runs of it, and the pods that it runs in: one of the first two may be missing.</summary>
internal sealed record Guest
{
    public required string Namespace { get; init; }

    public required string Name { get; init; }

    /// <summary>The VM; null: an instance by itself, as a replica set makes it.</summary>
    public VirtualMachine? Machine { get; init; }

    /// <summary>What is started of it; null: nothing.</summary>
    public VirtualMachineInstance? Instance { get; init; }

    /// <summary>Its pods, the newest first: while a VM restarts there may be one that ends.</summary>
    public required IReadOnlyList<LauncherPod> Launchers { get; init; }

    /// <summary>What it is called in a finding.</summary>
    public string Where => $"{(Machine is null ? "vmi" : "vm")} {Namespace}/{Name}";

    /// <summary>What it is to have at its next start.</summary>
    public GuestSpec Wanted => Machine?.Spec?.Template?.Spec ?? Instance?.Spec ?? new GuestSpec();

    /// <summary>Whether the guest runs now.</summary>
    public bool Runs => Instance?.Status?.Phase == "Running";

    /// <summary>Whether somebody wants it to run: one that is stopped is no problem.</summary>
    public bool IsToRun
    {
        get
        {
            if (Machine?.Metadata.DeletionTimestamp is not null || Instance?.Metadata.DeletionTimestamp is not null)
                return false;
            if (Instance is not null)
                return Instance.Status?.Phase != "Succeeded";
            return Machine?.Spec is { Running: true } or { RunStrategy: "Always" or "RerunOnFailure" or "Once" };
        }
    }

    /// <summary>Its pod; null: it has none, or only such as end.</summary>
    public LauncherPod? Launcher => Launchers.FirstOrDefault(p => p.Metadata.DeletionTimestamp is null);

    /// <summary>The node that it is on; null: none yet.</summary>
    public string? Node => Given(Instance?.Status?.NodeName) ?? Given(Launcher?.Spec?.NodeName);

    /// <summary>The VMs, by namespace and name.</summary>
    public static IReadOnlyList<Guest> Of(
        IReadOnlyList<VirtualMachine> machines,
        IReadOnlyList<VirtualMachineInstance> instances,
        IReadOnlyList<LauncherPod> launchers
    )
    {
        var machineOf = machines.ToDictionary(m => (m.Metadata.NamespaceProperty, m.Metadata.Name));
        var instanceOf = instances.ToDictionary(i => (i.Metadata.NamespaceProperty, i.Metadata.Name));
        ILookup<(string, string?), LauncherPod> podsOf = launchers.ToLookup(p => (p.Metadata.NamespaceProperty, InstanceOf(p)));
        return
        [
            .. machineOf
                .Keys.Union(instanceOf.Keys)
                .OrderBy(k => k.NamespaceProperty, StringComparer.Ordinal)
                .ThenBy(k => k.Name, StringComparer.Ordinal)
                .Select(k => new Guest
                {
                    Namespace = k.NamespaceProperty,
                    Name = k.Name,
                    Machine = machineOf.GetValueOrDefault(k),
                    Instance = instanceOf.GetValueOrDefault(k),
                    Launchers = [.. podsOf[(k.NamespaceProperty, k.Name)].OrderByDescending(p => p.Metadata.CreationTimestamp)],
                }),
        ];
    }

    private static string? InstanceOf(LauncherPod pod) =>
        pod.Metadata.OwnerReferences?.FirstOrDefault(o => o.Kind == "VirtualMachineInstance")?.Name;

    private static string? Given(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
