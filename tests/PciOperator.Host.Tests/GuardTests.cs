using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

public class GuardTests
{
    private static readonly (string Name, string Address, string Guard, string Says, Action<SimulatedHost>? Change)[] Cases =
    [
        ("mounted root", Lab.BootDisk, "Mounted", "/dev/nvme0n1p1, mounted at /boot/efi: umount /boot/efi frees it", null),
        ("default route", Lab.ManagementNic, "NetworkUse", "has the address 172.17.0.5/24 and the default route", null),
        ("boot display", Lab.BootDisplay, "BootVga", "the host booted with", null),
        (
            "mounted disk",
            Lab.Nvme,
            "Mounted",
            "carries /dev/nvme1n1, mounted at /data: umount /data frees it.",
            h => Disk(h, d => d.MountedAt = "/data")
        ),
        ("btrfs", Lab.Nvme, "Mounted", "/data", h => Disk(h, d => (d.MountedAt, d.AnonymousMount) = ("/data", true))),
        (
            "another device of a btrfs",
            Lab.Nvme,
            "Member",
            "/dev/nvme1n1, a member of the btrfs 4d0f",
            h => h.PutFile("/sys/fs/btrfs/4d0f/devices/nvme1n1", "")
        ),
        (
            "XFS log device",
            Lab.Nvme,
            "Mounted",
            "/dev/nvme1n1, mounted at /logged",
            h =>
                h.PutFile(
                    "/proc/1/mountinfo",
                    h.Files.ReadText("/proc/1/mountinfo") + "\n90 1 8:1 / /logged rw - xfs /dev/sdz1 rw,logdev=/dev/nvme1n1,noquota\n"
                )
        ),
        (
            "bcachefs of two devices",
            Lab.Nvme,
            "Mounted",
            "/dev/nvme1n1, mounted at /b",
            h =>
                h.PutFile(
                    "/proc/1/mountinfo",
                    h.Files.ReadText("/proc/1/mountinfo") + "\n90 1 0:90 / /b rw - bcachefs /dev/sdz:/dev/nvme1n1 rw\n"
                )
        ),
        ("NVMe multipath", Lab.Nvme, "Mounted", "/data", h => Disk(h, d => (d.MountedAt, d.Multipath) = ("/data", true))),
        (
            "mounted partition",
            Lab.Nvme,
            "Mounted",
            "/dev/nvme1n1p1, mounted at /with blank",
            h => Partition(h, d => d.MountedAt = "/with blank")
        ),
        (
            "kubelet's disk",
            Lab.Nvme,
            "Mounted",
            "mounted at /data, with /var/lib/kubelet",
            h =>
            {
                Disk(h, d => d.MountedAt = "/data");
                h.PutFile("/var/lib/kubelet/config.yaml", "");
                h.PutFile(
                    "/proc/1/mountinfo",
                    h.Files.ReadText("/proc/1/mountinfo") + "\n90 1 259:16 /kubelet /var/lib/kubelet rw - ext4 /dev/nvme1n1 rw\n"
                );
            }
        ),
        (
            "swap file's disk",
            Lab.Nvme,
            "Mounted",
            "mounted at /data, with the swap file /data/swap",
            h =>
            {
                Disk(h, d => d.MountedAt = "/data");
                h.PutFile("/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/data/swap file 1 0 -2\n");
            }
        ),
        ("swap", Lab.Nvme, "Swap", "swap (/dev/nvme1n1): swapoff", h => Disk(h, d => d.Swap = true)),
        (
            "swap on LVM",
            Lab.Nvme,
            "Swap",
            "swap (/dev/nvme1n1 -> vg-swap)",
            h =>
                h.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["nvme1n1"],
                        MapperName = "vg-swap",
                        Swap = true,
                    }
                )
        ),
        (
            "swap seen from another root",
            Lab.Nvme,
            "Swap",
            "swap (/dev/nvme1n1)",
            h => h.PutFile("/proc/swaps", "Filename Type Size Used Priority\n/nvme1n1 partition 1 0 -2\n")
        ),
        (
            "LVM",
            Lab.Nvme,
            "Stacked",
            "carries /dev/nvme1n1 -> vg-data: take down",
            h =>
                h.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["nvme1n1"],
                        MapperName = "vg-data",
                    }
                )
        ),
        (
            "multipath without holders",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> mpatha",
            h =>
                h.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["nvme1n1"],
                        MapperName = "mpatha",
                        WithoutHolders = true,
                    }
                )
        ),
        (
            "bcache device",
            Lab.Nvme,
            "Stacked",
            "/dev/nvme1n1 -> bcache0",
            h => h.Stack(new SimulatedStack { Name = "bcache0", On = ["nvme1n1"] })
        ),
        (
            "bcache cache",
            Lab.Nvme,
            "Member",
            "a backing or cache device of bcache",
            h => h.PutFile($"{NvmePath}/nvme/nvme1/nvme1n1/bcache/state", "clean")
        ),
        (
            "root on LVM on RAID",
            Lab.Nvme,
            "Mounted",
            "carries /dev/nvme1n1p1 -> md0 -> vg-root, mounted at /srv: umount /srv frees it",
            h =>
            {
                Partition(h, _ => { });
                h.Stack(new SimulatedStack { Name = "md0", On = ["nvme1n1p1"] });
                h.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["md0"],
                        MapperName = "vg-root",
                        MountedAt = "/srv",
                    }
                );
            }
        ),
        (
            "ZFS member",
            Lab.Nvme,
            "Member",
            "/dev/nvme1n1p1, a member of the imported ZFS pool tank: zpool export tank frees it",
            h => Zfs(h, "tank")
        ),
        (
            "exported over NVMe",
            Lab.Nvme,
            "Member",
            "exported over NVMe as namespace 1 of nqn.lab",
            h =>
            {
                h.PutFile("/sys/kernel/config/nvmet/subsystems/nqn.lab/namespaces/1/device_path", "/dev/nvme1n1\n");
                h.PutFile("/sys/kernel/config/nvmet/subsystems/nqn.lab/namespaces/1/enable", "1\n");
            }
        ),
        ("no node in /dev", Lab.Nvme, "HostView", "isn't at /dev/nvme1n1 in the agent's /dev", h => h.PutFile("/dev/nvme1n1", "")),
        (
            "address without a route",
            Lab.Igb,
            "NetworkUse",
            "the address 172.17.0.5/24: when the host can do without, ip address flush dev ens1",
            h => Net(h, n => n.Address = true)
        ),
        (
            "route",
            Lab.Igb,
            "NetworkUse",
            "a route (172.17.0.0/24): when the host can do without, ip route flush dev ens1",
            h => Net(h, n => n.Route = true)
        ),
        ("route in another table", Lab.Igb, "NetworkUse", "a route (198.51.100.0/24) in table 100", h => Net(h, n => n.PolicyRoute = true)),
        ("IPv6 route", Lab.Igb, "NetworkUse", "a route (2001:db8::/64)", h => Net(h, n => n.Route6 = true)),
        ("IPv6 address", Lab.Igb, "NetworkUse", "the address 2001:db8::5/64", h => Net(h, n => n.Address6 = true)),
        (
            "link-local address",
            Lab.Igb,
            "NetworkUse",
            "only the link-local address fe80::a00:27ff:fe00:1/64: ip link set ens1 down frees it",
            h => Net(h, n => (n.Up, n.LinkLocal) = (true, true))
        ),
        ("bond", Lab.Igb, "UpperInterface", "part of the bond bond0: remove it", h => Net(h, n => (n.Master, n.Up) = ("bond0", true))),
        ("bridge", Lab.Igb, "UpperInterface", "part of the bridge br0", h => Net(h, n => (n.Master, n.UpperKind) = ("br0", "bridge"))),
        ("team", Lab.Igb, "UpperInterface", "part of the team team0", h => Net(h, n => (n.Master, n.UpperKind) = ("team0", "team"))),
        (
            "Open vSwitch",
            Lab.Igb,
            "UpperInterface",
            "part of the openvswitch ovs-system",
            h => Net(h, n => (n.Master, n.UpperKind) = ("ovs-system", "openvswitch"))
        ),
        ("VRF", Lab.Igb, "UpperInterface", "part of the vrf blue", h => Net(h, n => (n.Master, n.UpperKind) = ("blue", "vrf"))),
        ("VLAN", Lab.Igb, "UpperInterface", "part of the vlan ens1.100", h => Net(h, n => n.Upper = "ens1.100")),
        ("macvlan", Lab.Igb, "UpperInterface", "part of the macvlan mv0", h => Net(h, n => (n.Upper, n.UpperKind) = ("mv0", "macvlan"))),
        ("ipvlan", Lab.Igb, "UpperInterface", "part of the ipvlan iv0", h => Net(h, n => (n.Upper, n.UpperKind) = ("iv0", "ipvlan"))),
        (
            "packet socket",
            Lab.Igb,
            "NetworkListener",
            "ens1, which has a packet socket bound to it",
            h => Net(h, n => n.PacketSocket = true)
        ),
        (
            "FCoE",
            Lab.Igb,
            "NetworkListener",
            "used by the kernel's fcoe_rcv (protocol 8906)",
            h => Net(h, n => n.Protocol = "fcoe_rcv [fcoe]")
        ),
        ("XDP", Lab.Igb, "NetworkListener", "an XDP program attached (ip link set ens1 xdp off", h => Net(h, n => n.Xdp = true)),
        ("promiscuous", Lab.Igb, "NetworkListener", "takes every frame", h => Net(h, n => (n.Up, n.Promiscuous) = (true, true))),
        ("CAN that is up", Lab.Igb, "NetworkListener", "type 280: CAN", h => Net(h, n => (n.Up, n.HardwareType) = (true, 280))),
        ("in a pod", Lab.Igb, "HiddenInterface", "a pod's network namespace", h => Net(h, n => n.InPod = true)),
        (
            "USB NIC of the BMC",
            "0000:24:00.2",
            "NetworkUse",
            "interface usb0, which has the address",
            h => h.Change("0000:24:00.2", f => f.Interfaces.Add(new SimulatedInterface { Name = "usb0", Address = true }))
        ),
        ("console's framebuffer", Lab.Gpu, "Console", "carries the framebuffer fb0 of the host's text console", h => Framebuffer(h, "1")),
        (
            "firmware's framebuffer",
            Lab.Gpu,
            "Console",
            "the framebuffer that the firmware set up",
            h =>
                h.PutFile(
                    "/proc/iomem",
                    "00000000-00000fff : Reserved\n80000000-dfffffff : PCI Bus 0000:20\n  a0000000-afffffff : PCI Bus 0000:24\n    a0000000-afffffff : 0000:24:00.0\n      a0000000-a02fffff : BOOTFB\n  b0000000-b0ffffff : 0000:23:00.0\n"
                )
        ),
        (
            "serial console",
            Lab.X520,
            "Console",
            "the kernel's console ttyS4",
            h =>
            {
                h.PutFile("/proc/consoles", "ttyS4                -W- (EC p a)    4:68\n");
                h.PutLink(
                    "/sys/class/tty/ttyS4",
                    "../../devices/pci0000:20/0000:20:01.0/0000:22:00.0/0000:22:00.0:0/0000:22:00.0:0.0/tty/ttyS4"
                );
            }
        ),
        (
            "vGPU",
            Lab.Gpu,
            "MediatedDevice",
            "the mediated device 0b0c (a vGPU): remove it first",
            h => h.PutLink("/sys/bus/mdev/devices/0b0c", "../../../devices/pci0000:20/0000:20:03.0/0000:24:00.0/0b0c")
        ),
        (
            "IOMMU",
            Lab.X520,
            "SystemDevice",
            "is an IOMMU (class 0806)",
            h => Replace(h, Lab.X520, f => (f.Class, f.HostDriver, f.Driver, f.Interfaces) = (0x080600, null, null, []))
        ),
        (
            "CXL memory",
            Lab.X520,
            "SystemDevice",
            "is CXL memory",
            h => Replace(h, Lab.X520, f => (f.Class, f.HostDriver, f.Driver, f.Interfaces) = (0x050210, "cxl_pci", "cxl_pci", []))
        ),
        (
            "IPMI",
            Lab.X520,
            "SystemDevice",
            "the IPMI interface",
            h => Replace(h, Lab.X520, f => (f.Class, f.HostDriver, f.Driver, f.Interfaces) = (0x0c0701, null, null, []))
        ),
        (
            "management engine",
            Lab.X520,
            "DeniedDriver",
            "is on mei_me, and",
            h => Replace(h, Lab.X520, f => (f.Class, f.HostDriver, f.Driver, f.Interfaces) = (0x078000, "mei_me", "mei_me", []))
        ),
        (
            "driver spelt otherwise",
            Lab.X520,
            "DeniedDriver",
            "is on ipmi-si, and",
            h => Replace(h, Lab.X520, f => (f.HostDriver, f.Driver) = ("ipmi-si", "ipmi-si"))
        ),
        (
            "disk behind a controller of PCI devices",
            Lab.X520,
            "Mounted",
            "0000:22:00.0 carries /dev/nvme1n1, mounted at /data",
            h =>
            {
                // Intel's VMD has a PCI domain of its own behind it.
                h.Change(Lab.Nvme, f => f.Bridge = Lab.X520);
                Disk(h, d => d.MountedAt = "/data");
            }
        ),
        ("foreign vfio", Lab.Igb, "ForeignVfioBinding", "somebody else", h => h.Change(Lab.Igb, f => f.Driver = "vfio-pci")),
        (
            "VF in use",
            Lab.X710,
            "NetworkUse",
            "ens4v1, which has the address",
            h => h.Change(Lab.X710Vf, f => f.Interfaces[0].Address = true)
        ),
        (
            "VF in a bond",
            Lab.X710Vf,
            "UpperInterface",
            "ens4v1, which is part of the bond bond0",
            h => h.Change(Lab.X710Vf, f => f.Interfaces[0].Master = "bond0")
        ),
        ("another member", "0000:24:00.2", "ForeignVfioBinding", "0000:24:00.1", h => h.Change("0000:24:00.1", f => f.Driver = "vfio-pci")),
        ("namespace", Lab.Igb, "HostView", "hostNetwork: true", h => h.SetAgentSeesHost(false)),
        (
            "a container as the node",
            Lab.Igb,
            "HostView",
            "PID 1 here is a container's first process",
            h =>
            {
                h.PutLink("/proc/1/ns/pid", "pid:[4026532700]");
                h.PutLink("/proc/4711/ns/pid", "pid:[4026532700]");
            }
        ),
    ];

    /// <summary>What looks like use, and is none.</summary>
    private static readonly (string Name, string Address, Action<SimulatedHost> Change)[] Harmless =
    [
        ("up without anything", Lab.Igb, h => Net(h, n => n.Up = true)),
        ("the PF in a bond, and a VF", Lab.X710Vf, h => h.Change(Lab.X710, f => f.Interfaces[0].Master = "bond0")),
        ("a neighbour's disk is mounted", Lab.X520, h => Disk(h, d => d.MountedAt = "/data")),
        (
            "a neighbour's disk is in a volume group",
            Lab.X520,
            h =>
                h.Stack(
                    new SimulatedStack
                    {
                        Name = "dm-0",
                        On = ["nvme1n1"],
                        MountedAt = "/x",
                    }
                )
        ),
        ("partitions without use", Lab.Nvme, h => Partition(h, _ => { })),
        (
            "a member of a ZFS pool that isn't imported",
            Lab.Nvme,
            h =>
            {
                Zfs(h, "tank");
                h.PutFile("/run/udev/data/b259:17", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=old\n");
            }
        ),
        (
            "an NVMe export that is off",
            Lab.Nvme,
            h =>
            {
                h.PutFile("/sys/kernel/config/nvmet/subsystems/nqn.lab/namespaces/1/device_path", "/dev/nvme1n1\n");
                h.PutFile("/sys/kernel/config/nvmet/subsystems/nqn.lab/namespaces/1/enable", "0\n");
            }
        ),
        ("a framebuffer without the text console", Lab.Gpu, h => Framebuffer(h, "0")),
        (
            "the second framebuffer",
            Lab.Gpu,
            h =>
            {
                Framebuffer(h, "1");
                h.PutLink("/sys/class/graphics/fb0", "../../devices/platform/efi-framebuffer.0/graphics/fb0");
                h.PutLink("/sys/class/graphics/fb1", "../../devices/pci0000:20/0000:20:03.0/0000:24:00.0/graphics/fb1");
            }
        ),
        (
            "a serial console elsewhere",
            Lab.X520,
            h =>
            {
                h.PutFile("/proc/consoles", "ttyS0                -W- (EC p a)    4:64\n");
                h.PutLink("/sys/class/tty/ttyS0", "../../devices/pnp0/00:01/tty/ttyS0");
                h.PutLink("/sys/class/tty/ttyS4", "../../devices/pci0000:20/0000:20:01.0/0000:22:00.0/tty/ttyS4");
            }
        ),
        (
            "a neighbour's vGPU",
            Lab.X520,
            h => h.PutLink("/sys/bus/mdev/devices/0b0c", "../../../devices/pci0000:20/0000:20:03.0/0000:24:00.0/0b0c")
        ),
        (
            "an accelerator of a system class",
            Lab.X520,
            h => Replace(h, Lab.X520, f => (f.Class, f.HostDriver, f.Driver, f.Interfaces) = (0x088000, null, null, []))
        ),
    ];

    private const string NvmePath = "/sys/devices/pci0000:20/0000:20:02.0/0000:23:00.0";

    public static TheoryData<string> Names => new(Cases.Select(c => c.Name));

    public static TheoryData<string> HarmlessNames => new(Harmless.Select(c => c.Name));

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

        string[] whole =
        [
            .. lab.Agent.Scan().Functions.Where(f => f.Function.IommuGroup == seen.Function.IommuGroup).Select(f => f.Address.ToString()),
        ];
        Holding holding = await lab.Prepare("claim-1", whole);
        Assert.Equal(HoldingState.Rejected, holding.State);
        Assert.Equal(guard == "ForeignVfioBinding" ? HoldingReasons.ForeignVfioBinding : HoldingReasons.GuardRefused, holding.Reason);
        Assert.Contains(says, holding.Message, StringComparison.Ordinal);
        NothingWasDone(lab);
    }

    [Theory]
    [MemberData(nameof(HarmlessNames))]
    public async Task What_only_looks_like_use_is_taken(string name)
    {
        (_, string address, Action<SimulatedHost> change) = Harmless.Single(c => c.Name == name);
        var lab = new Lab();
        change(lab.Simulated);
        Assert.Null(lab.Seen(address).GuardReason);
        Holding holding = await lab.Prepare("claim-1", address == Lab.Gpu ? Lab.GpuFunctions : [address]);
        Assert.Equal((HoldingState.Prepared, null), (holding.State, holding.Message));
        Assert.Empty(lab.Simulated.ClaimedByAgent);
    }

    [Theory]
    [InlineData(Lab.Nvme, "/dev/nvme1")]
    [InlineData(Lab.Nvme, "/dev/ng1n1")]
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
        Assert.Contains(
            "/dev/nvme1n1, which the kernel holds for somebody: a mount in another namespace",
            holding.Message,
            StringComparison.Ordinal
        );
        int pid = lab.Simulated.StartProcess("postgres");
        lab.Simulated.MoveToNetNamespace(pid, "net:[4026532555]");
        lab.Simulated.PutFile($"/proc/{pid}/mountinfo", "90 1 259:16 / /db rw - xfs /dev/nvme1n1 rw\n");
        Assert.Contains(
            $"mounted at /db by process {pid} (postgres)",
            (await lab.Prepare("claim-1", Lab.Nvme)).Message,
            StringComparison.Ordinal
        );
        NothingWasDone(lab);
    }

    [Fact]
    public async Task When_the_hosts_use_cannot_be_read_nothing_is_taken()
    {
        foreach (string path in new[] { "/proc/1/mountinfo", "rtnetlink", "/proc/1/ns/net", "/sys/class/block", "/proc/iomem" })
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

    internal static void NothingWasDone(Lab lab)
    {
        Assert.Empty(lab.Simulated.Log);
        Assert.Empty(lab.Agent.Holdings);
        Assert.Empty(lab.Simulated.Files.List($"{SimulatedHost.StateDirectory}/journal"));
        Assert.Empty(lab.Simulated.ClaimedByAgent);
    }

    private static void Disk(SimulatedHost host, Action<SimulatedDisk> change) => host.Change(Lab.Nvme, f => change(f.Disks[0]));

    private static void Net(SimulatedHost host, Action<SimulatedInterface> change) => host.Change(Lab.Igb, f => change(f.Interfaces[0]));

    private static void Partition(SimulatedHost host, Action<SimulatedDisk> change)
    {
        var partition = new SimulatedDisk
        {
            Name = "nvme1n1p1",
            PartitionOf = "nvme1n1",
            Minor = 17,
        };
        change(partition);
        host.Change(Lab.Nvme, f => f.Disks.Add(partition));
    }

    /// <summary>A partition with the signature of a pool's member, and that pool imported.</summary>
    private static void Zfs(SimulatedHost host, string pool)
    {
        Partition(host, _ => { });
        host.PutFile($"/proc/spl/kstat/zfs/{pool}/state", "ONLINE");
        host.PutFile("/run/udev/data/b259:17", $"E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL={pool}\n");
    }

    private static void Framebuffer(SimulatedHost host, string bound)
    {
        host.PutLink("/sys/class/graphics/fb0", "../../devices/pci0000:20/0000:20:03.0/0000:24:00.0/graphics/fb0");
        host.PutFile("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device");
        host.PutFile("/sys/class/vtconsole/vtcon1/bind", bound);
    }

    /// <summary>Another card is in its place from the start: its class isn't read again while its ids stay.</summary>
    private static void Replace(SimulatedHost host, string address, Action<SimulatedFunction> change) =>
        host.Change(
            address,
            f =>
            {
                (f.Ids, f.Serial, f.Sriov) = ("8086:0001", null, null);
                change(f);
            }
        );
}
