using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

public class GuardTests
{
    private static readonly (string Name, string Address, string Guard, string Says, Action<SimulatedHost>? Change)[] Cases =
    [
        ("mounted root", Lab.BootDisk, "Mounted", "mounted at", null),
        ("default route", Lab.ManagementNic, "NetworkUse", "the default route", null),
        ("boot display", Lab.BootDisplay, "BootVga", "booted with", null),
        ("mounted disk", Lab.Nvme, "Mounted", "/data (nvme1n1)", h => Disk(h, d => d.MountedAt = "/data")),
        ("btrfs", Lab.Nvme, "Mounted", "/data", h => Disk(h, d => (d.MountedAt, d.AnonymousMount) = ("/data", true))),
        ("multipath", Lab.Nvme, "Mounted", "/data", h => Disk(h, d => (d.MountedAt, d.Multipath) = ("/data", true))),
        ("mounted partition", Lab.Nvme, "Mounted", "/with blank (nvme1n1p1)", h => h.Change(Lab.Nvme, f =>
            f.Disks.Add(new SimulatedDisk { Name = "nvme1n1p1", PartitionOf = "nvme1n1", Minor = 17, MountedAt = "/with blank" }))),
        ("swap", Lab.Nvme, "Swap", "swapoff /dev/nvme1n1", h => Disk(h, d => d.Swap = true)),
        ("LVM", Lab.Nvme, "Stacked", "dm-0", h => Disk(h, d => d.Holder = "dm-0")),
        ("route", Lab.Igb, "NetworkUse", "a route (172.17.0.0)", h => Net(h, n => n.Route = true)),
        ("IPv6 route", Lab.Igb, "NetworkUse", "an IPv6 route", h => Net(h, n => n.Route6 = true)),
        ("IPv6 address", Lab.Igb, "NetworkUse", "an IPv6 address", h => Net(h, n => n.Address6 = true)),
        ("bond", Lab.Igb, "UpperInterface", "part of bond0", h => Net(h, n => (n.Master, n.Up) = ("bond0", true))),
        ("VLAN", Lab.Igb, "UpperInterface", "part of ens1.100", h => Net(h, n => n.Upper = "ens1.100")),
        ("up", Lab.Igb, "InterfaceUp", "ip link set ens1 down", h => Net(h, n => n.Up = true)),
        ("in a pod", Lab.Igb, "HiddenInterface", "a pod's network namespace", h => Net(h, n => n.InPod = true)),
        ("foreign vfio", Lab.Igb, "ForeignVfioBinding", "somebody else", h => h.Change(Lab.Igb, f => f.Driver = "vfio-pci")),
        ("VF in use", Lab.X710, "InterfaceUp", "ens4v1", h => h.Change(Lab.X710Vf, f => f.Interfaces[0].Up = true)),
        ("another member", "0000:24:00.2", "ForeignVfioBinding", "0000:24:00.1", h => h.Change("0000:24:00.1", f => f.Driver = "vfio-pci")),
        ("namespace", Lab.Igb, "HostView", "hostNetwork: true", h => h.SetAgentSeesHost(false)),
    ];

    public static TheoryData<string> Names => new(Cases.Select(c => c.Name));

    [Theory]
    [MemberData(nameof(Names))]
    public async Task What_the_host_uses_is_shown_as_refused_and_never_taken(string name)
    {
        (_, string address, string guard, string says, Action<SimulatedHost>? change) = Cases.Single(c => c.Name == name);
        var lab = new Lab();
        Assert.True(change is null || lab.Seen(address).GuardReason is null, "free before");
        change?.Invoke(lab.Simulated);

        HostFunction seen = lab.Seen(address);
        Assert.Equal(guard, seen.GuardName);
        Assert.Contains(says, seen.GuardReason, StringComparison.Ordinal);

        string[] whole = [.. lab.Agent.Scan().Functions.Where(f => f.Function.IommuGroup == seen.Function.IommuGroup).Select(f => f.Address.ToString())];
        Holding holding = await lab.Prepare("claim-1", whole);
        Assert.Equal(HoldingState.Rejected, holding.State);
        Assert.Equal(guard == "ForeignVfioBinding" ? HoldingReasons.ForeignVfioBinding : HoldingReasons.GuardRefused, holding.Reason);
        Assert.Contains(says, holding.Message, StringComparison.Ordinal);
        Assert.Empty(lab.Simulated.Log);
        Assert.Empty(lab.Agent.Holdings);
        Assert.Empty(lab.Simulated.Files.List($"{SimulatedHost.StateDirectory}/journal"));
    }

    [Theory]
    [InlineData(Lab.Nvme, "/dev/nvme1")]
    [InlineData(Lab.Nvme, "/dev/nvme1n1")]
    [InlineData(Lab.Gpu, "/dev/dri/card1")]
    [InlineData(Lab.Gpu, "/dev/snd/controlC1")]
    [InlineData(Lab.Igb, "/sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0/resource0")]
    public async Task A_device_that_a_process_has_open_is_not_taken(string address, string node)
    {
        var lab = new Lab();
        int pid = lab.Simulated.StartProcess("database", node);
        string[] devices = address == Lab.Gpu ? Lab.GpuFunctions : [address];
        Holding holding = await lab.Prepare("claim-1", devices);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains($"process {pid} (database)", holding.Message, StringComparison.Ordinal);
        Assert.Empty(lab.Simulated.Log);
        lab.Simulated.StopProcess(pid);
        Assert.Equal(HoldingState.Prepared, (await lab.Prepare("claim-1", devices)).State);
    }

    [Fact]
    public async Task A_block_device_that_the_kernel_holds_without_a_trace_is_not_taken()
    {
        var lab = new Lab();
        Disk(lab.Simulated, d => d.Claimed = true);
        Holding holding = await lab.Prepare("claim-1", Lab.Nvme);
        Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
        Assert.Contains("nvme1n1, which the kernel holds", holding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task When_the_hosts_use_cannot_be_read_nothing_is_taken()
    {
        foreach (string path in new[] { "/proc/1/mountinfo", "/proc/1/net/route", "/proc/1/ns/net" })
        {
            var lab = new Lab();
            AssignmentRequest request = lab.Request("claim-1", Lab.Igb);
            lab.Simulated.Fault = a =>
            {
                if (a.Path == path)
                    throw new HostIoException("read", path, Errnos.EACCES);
            };
            Holding holding = await lab.Agent.PrepareAsync(request);
            Assert.Equal((HoldingState.Rejected, HoldingReasons.GuardRefused), (holding.State, holding.Reason));
            Assert.Empty(lab.Simulated.Log);
        }
    }

    [Fact]
    public void The_rest_of_the_lab_is_free()
    {
        string[] refused = [.. new Lab().Agent.Scan().Functions.Where(f => f.GuardReason is not null).Select(f => f.Address.ToString())];
        Assert.Equal([Lab.ManagementNic, Lab.BootDisk, Lab.BootDisplay], refused);
    }

    private static void Disk(SimulatedHost host, Action<SimulatedDisk> change) => host.Change(Lab.Nvme, f => change(f.Disks[0]));

    private static void Net(SimulatedHost host, Action<SimulatedInterface> change) => host.Change(Lab.Igb, f => change(f.Interfaces[0]));
}
