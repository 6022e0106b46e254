namespace PciOperator.Sandbox.Hosts;

/// <summary>All of a simulated host that outlives one call: what <see cref="SimulatedHost.SaveTo"/> keeps in a file.</summary>
internal sealed class SimulatedState
{
    public string KernelVersion { get; set; } = "6.12.0-sim";

    public string BootId { get; set; } = "";

    public int Boots { get; set; }

    public string CommandLine { get; set; } = "root=/dev/nvme0n1p2 intel_iommu=on iommu=pt";

    public bool Iommu { get; set; } = true;

    /// <summary>"GenuineIntel" or "AuthenticAMD".</summary>
    public string CpuVendor { get; set; } = "GenuineIntel";

    /// <summary>The firmware has a DMAR table (on AMD: IVRS).</summary>
    public bool FirmwareIommu { get; set; } = true;

    /// <summary>The IOMMU remaps interrupts.</summary>
    public bool InterruptRemapping { get; set; } = true;

    public bool UnsafeNoIommu { get; set; }

    /// <summary>VFIO has group nodes (CONFIG_VFIO_GROUP), beside those of iommufd.</summary>
    public bool VfioGroups { get; set; } = true;

    public string PciIds { get; set; } = "";

    public List<SimulatedFunction> Functions { get; set; } = [];

    public Dictionary<int, SimulatedProcess> Processes { get; set; } = [];

    /// <summary>Drivers that are registered.</summary>
    public SortedSet<string> Drivers { get; set; } = new(StringComparer.Ordinal);

    /// <summary>Drivers that are there from boot.</summary>
    public SortedSet<string> BootDrivers { get; set; } = new(StringComparer.Ordinal);

    /// <summary>Drivers that modprobe can add.</summary>
    public SortedSet<string> Loadable { get; set; } = new(StringComparer.Ordinal) { "vfio-pci", "pci-stub" };

    /// <summary>NUMA node to CPU list and socket.</summary>
    public SortedDictionary<int, SimulatedNumaNode> NumaNodes { get; set; } = [];

    /// <summary>Regular files: the agent's journal, and what a test puts there.</summary>
    public SortedDictionary<string, byte[]> Files { get; set; } = new(StringComparer.Ordinal);

    /// <summary>Symbolic links that a test puts there.</summary>
    public SortedDictionary<string, string> Links { get; set; } = new(StringComparer.Ordinal);

    /// <summary>Virtual block devices.</summary>
    public List<SimulatedStack> Stacks { get; set; } = [];

    public int NextGroup { get; set; } = 1;

    public int NextPid { get; set; } = 5000;

    /// <summary>Of the MACs that VFs' drivers choose.</summary>
    public int NextMac { get; set; } = 1;

    /// <summary>The agent's network and PID namespaces are PID 1's.</summary>
    public bool AgentSeesHost { get; set; } = true;

    public bool Iommufd { get; set; } = true;
}

/// <summary>A process of a simulated host.</summary>
internal sealed record SimulatedProcess(string Name, List<string> Files)
{
    /// <summary>Its network namespace, and a mount namespace of its own with it; null: the host's.</summary>
    public string? NetNamespace { get; set; }

    /// <summary>Files that it has mapped.</summary>
    public List<string> Maps { get; set; } = [];
}

/// <summary>A NUMA node of a simulated host.</summary>
/// <param name="Cpus">"0-15".</param>
/// <param name="Socket">physical_package_id of its CPUs.</param>
internal sealed record SimulatedNumaNode(string Cpus, int Socket);
