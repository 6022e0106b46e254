using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

public class InventoryTests(ITestOutputHelper output)
{
    [Fact]
    public void The_lab_is_seen_as_it_is()
    {
        var lab = new Lab();
        HostSnapshot snapshot = lab.Agent.Scan();
        Assert.Empty(snapshot.Problems);
        Assert.Equal(("6.12.0-sim", lab.Simulated.BootId), (snapshot.KernelVersion, snapshot.BootId));
        Assert.True(snapshot.Iommu.Enabled);
        Assert.Equal(lab.Simulated.Functions.Count, snapshot.Functions.Count);

        HostFunction igb = lab.Seen(Lab.Igb);
        Assert.Equal(
            new PciFunction
            {
                Address = PciAddress.Parse(Lab.Igb),
                VendorId = PciId.Parse("8086"),
                ProductId = PciId.Parse("10c9"),
                SubsystemVendorId = PciId.Parse("8086"),
                SubsystemProductId = PciId.Parse("a03c"),
                ClassCode = 0x020000,
                Type = DeviceType.Pf,
                NumaNode = 0,
                Socket = 0,
                IommuGroup = lab.Sim(Lab.Igb).Group,
                SriovTotalVfs = 7,
                VfProductId = PciId.Parse("10ca"),
                NetDevice = "ens1",
                StableId = "serial:a0-36-9f-ff-ff-00-21-00.0",
            },
            igb.Function
        );
        Assert.Equal(
            ("igb", null, 0, "Intel Corporation 82576 Gigabit Network Connection"),
            (igb.Driver, igb.DriverOverride, igb.NumVfs, igb.Name)
        );
        Assert.Equal(["flr", "pm", "bus"], igb.ResetMethods);

        HostFunction vf = lab.Seen(Lab.X710Vf);
        Assert.Equal(
            (DeviceType.Vf, PciAddress.Parse(Lab.X710), "ens4", "ens4v1", 1, 1),
            (
                vf.Function.Type,
                vf.Function.ParentAddress,
                vf.Function.ParentNetDevice,
                vf.Function.NetDevice,
                vf.Function.NumaNode,
                vf.Function.Socket
            )
        );
        Assert.Equal("path:pci0000:80/01.0/02.1", vf.Function.StableId);
        Assert.Equal("slot:11.0", lab.Seen(Lab.Nvme).Function.StableId);
        Assert.Equal("path:pci0000:20/03.0/00.0", lab.Seen(Lab.Gpu).Function.StableId);
        Assert.True(lab.Seen("0000:20:00.0").Function.IsBridge);
        Assert.Single(Lab.GpuFunctions.Select(f => lab.Seen(f).Function.IommuGroup).Distinct());
        Assert.Equal(4, lab.Seen(Lab.X710).NumVfs);
    }

    [Fact]
    public void A_function_that_cannot_be_read_is_left_out_and_named()
    {
        var lab = new Lab();
        int all = lab.Agent.Scan().Functions.Count;
        lab.Simulated.Fault = a =>
        {
            if (a.Path == $"/sys/bus/pci/devices/{Lab.Igb}/vendor")
                throw new HostIoException("read", a.Path, Errnos.EIO);
        };
        HostSnapshot snapshot = lab.Agent.Scan();
        Assert.Equal(all - 1, snapshot.Functions.Count);
        Assert.Contains(Lab.Igb, Assert.Single(snapshot.Problems), StringComparison.Ordinal);
    }

    [Fact]
    public void A_scan_survives_an_error_at_every_read()
    {
        var lab = new Lab();
        int all = lab.Agent.Scan().Functions.Count;
        int reads = 0,
            survived = 0;
        for (int index = 0; ; index++)
        {
            var agent = new PassthroughHost(lab.Simulated.Files, SimulatedHost.StateDirectory);
            int seen = 0;
            bool hit = false;
            lab.Simulated.Fault = a =>
            {
                if (
                    a.Before
                    && seen++ == index
                    && !a.Path.StartsWith("/proc/sys", StringComparison.Ordinal)
                    && a.Path != "/sys/bus/pci/devices"
                )
                {
                    hit = true;
                    throw new HostIoException("read", a.Path, Errnos.EIO);
                }
            };
            try
            {
                Assert.InRange(agent.Scan().Functions.Count, all - 1, all);
                survived++;
            }
            catch (HostIoException)
            {
                // The host's own facts: nothing can be said without them.
            }

            reads = seen;
            if (!hit && seen <= index)
                break;
        }

        output.WriteLine($"{survived} of {reads} reads");
        Assert.True(survived > reads - 20, $"{survived} of {reads}");
    }

    [Fact]
    public void Names_that_are_not_known_are_absent_and_serials_are_read_once()
    {
        var lab = new Lab(LabHosts.Builder().PciIds("8086  Intel Corporation\n\t10c9  82576\n").Build());
        Assert.Equal("Intel Corporation 82576", lab.Seen(Lab.Igb).Name);
        Assert.Equal("Intel Corporation 154d", lab.Seen(Lab.X520).Name);
        Assert.Null(lab.Seen(Lab.Gpu).Name);
        int configs = 0;
        lab.Simulated.Fault = a => configs += a.Before && a.Path.EndsWith("/config", StringComparison.Ordinal) ? 1 : 0;
        lab.Agent.Scan();
        int answers = configs; // each scan asks whether devices answer
        configs = 0;
        lab.Agent.Scan(fresh: true);
        Assert.Equal(2 * answers, configs);
    }

    [Fact]
    public void A_host_with_256_functions_is_scanned_with_few_reads_of_each()
    {
        var lab = new Lab(LabHosts.CreateWith256Vfs());
        lab.Agent.Scan();
        int reads = 0;
        lab.Simulated.Fault = a => reads += a.Before ? 1 : 0;
        int functions = lab.Agent.Scan().Functions.Count;
        Assert.True(functions >= 256);
        output.WriteLine($"{functions} functions, {reads} reads");
        Assert.InRange(reads, functions, 40 * functions);
    }

    [Fact]
    public void Files_on_a_disk_are_read_as_simulated_ones_are()
    {
        DirectoryInfo root = Directory.CreateTempSubdirectory("pcioperator-");
        try
        {
            SimulatedHost simulated = LabHosts.CreateWith256Vfs();
            simulated.CopyTo(root.FullName);
            var onDisk = new PassthroughHost(OnDisk.Of(new LinuxFileSystem(root.FullName), simulated.Files), SimulatedHost.StateDirectory);
            Assert.Equal(Describe(new Lab(simulated).Agent.Scan()), Describe(onDisk.Scan()));
        }
        finally
        {
            root.Delete(recursive: true);
        }
    }

    private static string Describe(HostSnapshot snapshot) =>
        string.Join(
            '\n',
            snapshot
                .Functions.Select(f =>
                    $"{f.Function} {f.Driver} {f.DriverOverride} {f.NumVfs} {string.Join(' ', f.ResetMethods)} {f.Name} {f.GuardName} {f.GuardReason}"
                )
                .Concat(snapshot.Problems)
                .Append($"{snapshot.Iommu} {snapshot.KernelVersion} {snapshot.BootId}")
        );

    [Fact]
    public void Serial_numbers_are_found_in_VPD_and_in_configuration_space()
    {
        byte[] vpd =
        [
            0x82,
            4,
            0,
            .. "Card"u8,
            0x90,
            15,
            0,
            (byte)'P',
            (byte)'N',
            3,
            .. "123"u8,
            (byte)'S',
            (byte)'N',
            6,
            .. "MT1234"u8,
            0x78,
        ];
        Assert.Equal("MT1234", SerialNumber.FromVpd(vpd));
        for (int length = 0; length < vpd.Length; length++)
            Assert.True(SerialNumber.FromVpd(vpd.AsSpan(0, length)) is null or "MT1234");
        byte[] config = new byte[4096];
        Assert.Null(SerialNumber.FromConfig(config));
        config.AsSpan().Fill(0xff);
        Assert.Null(SerialNumber.FromConfig(config));
        Assert.Null(SerialNumber.FromConfig(new byte[64]));
        Assert.Null(SerialNumber.FromConfig([]));
    }

    [Fact]
    public void The_best_vfio_variant_is_the_one_with_fewest_wildcards()
    {
        byte[] aliases =
            """
            alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core
            alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
            alias vfio_pci:v000015B3d*sv*sd*bc*sc*i* other_vfio_pci
            alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
            """u8.ToArray();
        Assert.Equal("mlx5_vfio_pci", VfioVariant.Best(aliases, "pci:v000015B3d0000101Esv000015B3sd00000001bc02sc00i00"));
        Assert.Equal("other_vfio_pci", VfioVariant.Best(aliases, "pci:v000015B3d0000101Dsv000015B3sd00000001bc02sc00i00"));
        Assert.Null(VfioVariant.Best(aliases, "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00"));
    }
}
