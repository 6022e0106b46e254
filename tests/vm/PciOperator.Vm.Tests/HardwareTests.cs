using System.Net;
using System.Net.Sockets;

namespace PciOperator.Vm.Tests;

/// <summary>A machine that the tests of a class share; each leaves it as it found it.</summary>
public sealed class HardwareFixture : IAsyncLifetime
{
    internal VirtualMachine Machine { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        if (Lab.IsCi || Lab.WhyNoVirtualMachine is null)
            Machine = await VirtualMachine.StartAsync(new() { Name = "hardware" });
    }

    public async ValueTask DisposeAsync()
    {
        if (Machine is not null)
            await Machine.DisposeAsync();
    }
}

/// <summary>The lab has the hardware that the agent's tests count on, and its kernel does what the agent is written for.</summary>
public sealed class HardwareTests(HardwareFixture fixture) : IClassFixture<HardwareFixture>
{
    private VirtualMachine Machine => fixture.Machine;

    [VmFact]
    public async Task The_kernel_is_the_one_that_was_asked_for() =>
        Assert.Equal(Machine.KernelVersion, await Machine.OutputOfAsync("uname -r"));

    [VmFact]
    public async Task A_command_gives_its_output_and_its_exit_code()
    {
        Assert.Equal(new CommandResult(3, "out\nerr"), await Machine.RunAsync("echo out; echo err >&2; exit 3"));
        Task<CommandResult> blocked = Machine.RunAsync("until [ -e /tmp/go ]; do usleep 10000; done; echo gone");
        Assert.Equal(
            new CommandResult(0, new string('x', 100_000)),
            await Machine.RunAsync("head -c 100000 /dev/zero | tr '\\0' x; touch /tmp/go")
        );
        Assert.Equal(new CommandResult(0, "gone"), await blocked);
    }

    [VmFact]
    public async Task Devices_sit_on_their_NUMA_nodes()
    {
        Assert.Equal("0-1", await Machine.OutputOfAsync("cat /sys/devices/system/node/online"));
        Assert.Equal("0", await Machine.SysfsAsync(Topology.Nic0, "numa_node"));
        Assert.Equal("0", await Machine.SysfsAsync(Topology.Nvme, "numa_node"));
        Assert.Equal("1", await Machine.SysfsAsync(Topology.Nic1, "numa_node"));
        Assert.Equal("1", await Machine.SysfsAsync(Topology.DualNic1, "numa_node"));
    }

    [VmFact]
    public async Task Functions_without_ACS_between_them_share_an_IOMMU_group_and_others_do_not()
    {
        string dual = await Machine.IommuGroupOfAsync(Topology.DualNic0);
        Assert.Equal(dual, await Machine.IommuGroupOfAsync(Topology.DualNic1));
        Assert.Equal(await Machine.IommuGroupOfAsync(Topology.Edu), await Machine.IommuGroupOfAsync(Topology.TestDevice));
        string[] groups =
        [
            dual,
            await Machine.IommuGroupOfAsync(Topology.Nic0),
            await Machine.IommuGroupOfAsync(Topology.Nic1),
            await Machine.IommuGroupOfAsync(Topology.Nvme),
            await Machine.IommuGroupOfAsync(Topology.HostNic),
        ];
        Assert.Equal(5, groups.Where(group => group != "").Distinct().Count());
    }

    [VmFact]
    public async Task The_NIC_that_carries_the_route_is_the_virtio_one()
    {
        Assert.Equal("0x1af4", await Machine.SysfsAsync(Topology.HostNic, "vendor"));
        string nic = await Machine.OutputOfAsync($"ls /sys/bus/pci/devices/{Topology.HostNic}/virtio*/net");
        Assert.Contains($"default via 10.0.2.2 dev {nic}", await Machine.OutputOfAsync("ip route"));
    }

    [VmFact]
    public async Task A_NIC_goes_to_vfio_pci_and_back()
    {
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));
        await BindAsync(Topology.Nic1, "vfio-pci");
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic1));
        string group = await Machine.IommuGroupOfAsync(Topology.Nic1);
        await Machine.OutputOfAsync($"test -c /dev/vfio/{group}");
        await BindAsync(Topology.Nic1, "");
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.Nic1));
        await Machine.OutputOfAsync($"test ! -e /dev/vfio/{group}");
    }

    [VmFact]
    public async Task VFs_are_made_each_in_a_group_of_its_own_and_go_to_vfio_pci()
    {
        await Machine.OutputOfAsync($"echo 4 > /sys/bus/pci/devices/{Topology.Nic0}/sriov_numvfs");
        try
        {
            Assert.Equal("0x10ca", await Machine.SysfsAsync(Topology.Nic0FirstVf, "device"));
            string groups = await Machine.OutputOfAsync(
                $"for vf in /sys/bus/pci/devices/{Topology.Nic0}/virtfn*; do basename $(readlink $vf/iommu_group); done"
            );
            Assert.Equal(4, groups.Split('\n').Distinct().Count());
            await BindAsync(Topology.Nic0FirstVf, "vfio-pci");
            Assert.Equal("vfio-pci", await Machine.DriverOfAsync(Topology.Nic0FirstVf));
        }
        finally
        {
            await Machine.OutputOfAsync($"echo 0 > /sys/bus/pci/devices/{Topology.Nic0}/sriov_numvfs");
        }

        await Machine.OutputOfAsync($"test ! -e /sys/bus/pci/devices/{Topology.Nic0FirstVf}");
    }

    [VmFact]
    public async Task A_device_can_be_plugged_in_and_pulled_out()
    {
        string device = $"/sys/bus/pci/devices/{Topology.HotPlugged}";
        await Machine.PlugInAsync("hot0");
        await Machine.WaitUntilAsync($"[ -e {device}/driver ]");
        Assert.Equal("igb", await Machine.DriverOfAsync(Topology.HotPlugged));
        await Machine.PullOutAsync("hot0");
        await Machine.WaitUntilAsync($"[ ! -e {device} ]");
    }

    [VmFact]
    public async Task The_guest_reaches_nothing_but_the_API_server()
    {
        // QEMU's user network would make 10.0.2.2 the host's loopback, were it not restricted.
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        int port = ((IPEndPoint)listener.LocalEndpoint).Port;
        Assert.NotEqual(0, (await Machine.RunAsync($"timeout 3 nc -w 2 10.0.2.2 {port} < /dev/null")).ExitCode);
        Assert.False(listener.Pending());
    }

    /// <summary>
    /// driver_override and drivers_probe; an empty driver means the device's own (cleared by a newline: the kernel ignores an empty write).
    /// </summary>
    private Task<string> BindAsync(string address, string driver) =>
        Machine.OutputOfAsync(
            $"""
            set -e
            cd /sys/bus/pci/devices/{address}
            echo {driver} > driver_override
            [ ! -e driver ] || echo {address} > driver/unbind
            echo {address} > /sys/bus/pci/drivers_probe
            """
        );
}
