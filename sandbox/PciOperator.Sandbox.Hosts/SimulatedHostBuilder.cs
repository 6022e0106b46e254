namespace PciOperator.Sandbox.Hosts;

/// <summary>Puts a simulated host together.</summary>
public sealed class SimulatedHostBuilder
{
    private readonly SimulatedState _state = new();
    private readonly List<SimulatedFunction> _functions = [];

    /// <summary>As uname -r.</summary>
    public SimulatedHostBuilder KernelVersion(string version)
    {
        _state.KernelVersion = version;
        return this;
    }

    /// <summary>No IOMMU groups.</summary>
    /// <param name="firmware">The firmware offers one nevertheless (a DMAR table is there).</param>
    /// <param name="commandLine">The kernel command line.</param>
    public SimulatedHostBuilder WithoutIommu(bool firmware, string commandLine = "root=/dev/nvme0n1p2")
    {
        (_state.Iommu, _state.FirmwareIommu, _state.CommandLine) = (false, firmware, commandLine);
        return this;
    }

    /// <summary>The kernel command line; the default has intel_iommu=on iommu=pt.</summary>
    public SimulatedHostBuilder CommandLine(string text)
    {
        _state.CommandLine = text;
        return this;
    }

    /// <summary>"AuthenticAMD"; the default is "GenuineIntel".</summary>
    public SimulatedHostBuilder Cpu(string vendor)
    {
        _state.CpuVendor = vendor;
        return this;
    }

    /// <summary>An IOMMU that doesn't remap interrupts.</summary>
    public SimulatedHostBuilder WithoutInterruptRemapping()
    {
        _state.InterruptRemapping = false;
        return this;
    }

    /// <summary>A regular file of the host, also in place of one that the kernel shows.</summary>
    public SimulatedHostBuilder File(string path, string content)
    {
        _state.Files[path] = System.Text.Encoding.UTF8.GetBytes(content);
        return this;
    }

    /// <summary>No IOMMU, and VFIO told to go without.</summary>
    public SimulatedHostBuilder UnsafeNoIommu()
    {
        (_state.Iommu, _state.UnsafeNoIommu) = (false, true);
        return this;
    }

    /// <summary>modprobe doesn't find this one.</summary>
    public SimulatedHostBuilder WithoutModule(string name)
    {
        _state.Loadable.Remove(name);
        return this;
    }

    /// <summary>A NUMA node: "0-15" and its socket.</summary>
    public SimulatedHostBuilder NumaNode(int node, string cpus, int socket)
    {
        _state.NumaNodes[node] = new SimulatedNumaNode(cpus, socket);
        return this;
    }

    /// <summary>The host's pci.ids.</summary>
    public SimulatedHostBuilder PciIds(string text)
    {
        _state.PciIds = text;
        return this;
    }

    /// <summary>A function, with its VFs if its SR-IOV says so; its host driver takes it at boot.</summary>
    public SimulatedHostBuilder Add(SimulatedFunction function)
    {
        _functions.Add(function);
        return this;
    }

    /// <summary>Boots it.</summary>
    public SimulatedHost Build()
    {
        _state.BootId = SimulatedHost.BootIdOf(++_state.Boots);
        var kernel = new SimulatedKernel(_state, () => { }, _ => { });
        if (_functions.Where(f => f.Group is not null).Select(f => f.Group!.Value).DefaultIfEmpty(0).Max() is var highest)
            _state.NextGroup = highest + 1;
        foreach (SimulatedFunction function in _functions)
        {
            int vfs = function.Sriov?.NumVfs ?? 0;
            if (function.Sriov is not null)
                function.Sriov.NumVfs = 0;
            lock (kernel.Gate)
            {
                kernel.Add(function);
                if (vfs > 0)
                    kernel.WriteNumVfs(function, $"{vfs}");
            }
        }

        _state.BootDrivers = new SortedSet<string>(_state.Drivers, StringComparer.Ordinal);
        return new SimulatedHost(_state);
    }
}
