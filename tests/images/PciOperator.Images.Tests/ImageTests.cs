using System.Diagnostics;
using System.Text.Json.Nodes;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Images.Tests;

/// <summary>The images: what they say of themselves, and their programs, started as the manifests have them.</summary>
public sealed class ImageTests
{
    private const string Node = "node-1";
    private const string Address = "0000:41:00.0";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly string Chart = Path.Combine(Kubectl.Repository, "charts", "pci-operator");

    public static TheoryData<string, string, string> All =>
        new()
        {
            { "controller", "", "amd64" },
            { "agent", "", "amd64" },
            { "kubectl-pci", "", "amd64" },
            { "agent", "-arm64", "arm64" },
        };

    [Theory]
    [MemberData(nameof(All))]
    public async Task The_same_programs_and_base_give_the_same_digest_and_the_image_says_what_it_is(
        string image,
        string suffix,
        string architecture
    )
    {
        ImageConfiguration once = await Image.InspectAsync($"localhost/pcioperator/{image}:test{suffix}");
        ImageConfiguration again = await Image.InspectAsync($"localhost/pcioperator/{image}:again{suffix}");

        Assert.Equal(once.Digest, again.Digest);
        Assert.Equal(architecture, once.Architecture);
        Assert.Equal("Apache-2.0", once.Labels["org.opencontainers.image.licenses"]);
        Assert.Matches(@"^\d+\.\d+\.\d+$", once.Labels["org.opencontainers.image.version"]);
        Assert.Matches("^[0-9a-f]{40}$", once.Labels["org.opencontainers.image.revision"]);
        Assert.NotEmpty(once.Labels["org.opencontainers.image.title"]);
        // Only the agent is root: it writes sysfs.
        Assert.Equal(image == "agent" ? "0" : "1654", once.User);
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task The_bill_of_materials_in_the_image_names_the_lock_files_packages_the_runtime_and_the_bases(
        string image,
        string suffix,
        string architecture
    )
    {
        await using Image.Mounted files = await Image.MountAsync($"localhost/pcioperator/{image}:test{suffix}");
        string bill = Directory.GetFiles(Path.Combine(files.Root, "usr/share/sbom")).Single();
        JsonNode document = JsonNode.Parse(await File.ReadAllTextAsync(bill))!;
        string project = image switch
        {
            "controller" => "Controller",
            "agent" => "Agent",
            _ => "Cli",
        };
        JsonNode locked = JsonNode.Parse(
            await File.ReadAllTextAsync(Path.Combine(Kubectl.Repository, "src", "PciOperator." + project, "packages.lock.json"))
        )!["dependencies"]!["net10.0"]!;
        string[] packages =
        [
            .. locked
                .AsObject()
                .Where(p =>
                    (string?)p.Value!["type"] != "Project" && p.Key is not ("Microsoft.NET.ILLink.Tasks" or "Microsoft.DotNet.ILCompiler")
                )
                .Select(p => $"pkg:nuget/{p.Key}@{p.Value!["resolved"]}"),
        ];
        string[] purls = [.. document["components"]!.AsArray().Select(c => (string)c!["purl"]!)];

        Assert.Equal("CycloneDX", (string?)document["bomFormat"]);
        Assert.Equal(purls.Length, purls.Distinct().Count());
        Assert.All(packages, p => Assert.Contains(p, purls));
        Assert.Contains(
            purls,
            p =>
                p.StartsWith(
                    $"pkg:nuget/Microsoft.NETCore.App.Runtime.NativeAOT.linux-{(architecture == "amd64" ? "x64" : "arm64")}@",
                    StringComparison.Ordinal
                )
        );
        Assert.Contains(
            purls,
            p =>
                p.StartsWith("pkg:deb/debian/libssl3@", StringComparison.Ordinal)
                && p.EndsWith("?arch=" + architecture, StringComparison.Ordinal)
        );
        // What depends on what names only what is there.
        string[] known = [.. purls, (string)document["metadata"]!["component"]!["bom-ref"]!];
        foreach (JsonNode? edge in document["dependencies"]!.AsArray())
        {
            Assert.Contains((string)edge!["ref"]!, known);
            Assert.All(edge["dependsOn"]!.AsArray(), d => Assert.Contains((string)d!, known));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_claim_is_served_and_its_device_given_back_by_programs_started_from_the_images_as_the_manifests_have_them(
        bool byChart
    )
    {
        NeedsRoot();
        IReadOnlyList<YamlMappingNode> objects = byChart ? await Helm.ObjectsAsync(Chart) : await KustomizedAsync();
        await using TestApiServer server = await TestApiServer.RealAsync();
        await ApplyAsync(server, objects);
        using EntityClient client = server.Client(ResourceJsonContext.WithOwnKinds, fieldManager: "test");
        var kubelet = new SimulatedKubelet(client, Node);
        await kubelet.RegisterAsync();
        await kubelet.SetAgentReadyAsync(true);
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pcioperator-images-");
        try
        {
            string host = Path.Combine(folder.FullName, "host");
            MakeHost(host);
            await using Container controller = await StartAsync(server, folder, Template(objects, "Deployment"), "controller", host);
            await using Container agent = await StartAsync(server, folder, Template(objects, "DaemonSet"), "agent", host);
            await HealthyAsync(Template(objects, "Deployment"), controller);
            await HealthyAsync(Template(objects, "DaemonSet"), agent);

            // As the kernel has them.
            Assert.Equal("1654\t1654\t1654\t1654", await controller.StatusAsync("Uid"));
            Assert.Equal("0000000000000000", await controller.StatusAsync("CapEff"));
            Assert.Equal("0000000000000000", await controller.StatusAsync("CapBnd"));
            Assert.Equal("1", await controller.StatusAsync("NoNewPrivs"));
            Assert.Equal("2", await controller.StatusAsync("Seccomp"));
            Assert.Equal("0\t0\t0\t0", await agent.StatusAsync("Uid"));
            Assert.Equal("0", await agent.StatusAsync("Seccomp"));

            await OfferAsync(client);
            await ClaimAsync(client);
            if (SeesFirstProcess())
            {
                PassthroughClaim ready = await UntilAsync(
                    client,
                    () => client.GetAsync<PassthroughClaim>("first", "default"),
                    c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true,
                    agent,
                    controller
                );
                Assert.Equal((Node, Address), (ready.Status!.NodeName, ready.Status.Devices!.Single().Address));
                Assert.Single(Directory.GetFiles(Path.Combine(host, "var/lib/pcioperator/journal")));
            }
            else
            {
                // In a container that may not look at the machine's first process the agent gives nothing away, and says it.
                PassthroughClaim waits = await UntilAsync(
                    client,
                    () => client.GetAsync<PassthroughClaim>("first", "default"),
                    c =>
                        c.Status?.Conditions.Find(Conditions.Scheduled)?.Message.Contains("the host keeps it", StringComparison.Ordinal)
                        == true,
                    agent,
                    controller
                );
                Assert.Equal("NoNodeFits", waits.Status!.Conditions.Find(Conditions.Scheduled)!.Reason);
                PciNodeDevice kept = Assert.Single((await client.GetAsync<PciNode>(Node))!.Status!.Devices!);
                Assert.Equal(Address, kept.Address);
                Assert.StartsWith(
                    "The host's use of its devices can't be seen: readlink /proc/1/ns/net",
                    kept.Reason,
                    StringComparison.Ordinal
                );
            }

            if (!byChart)
                await PluginShowsAsync(server, folder, host);

            await client.DeleteAsync<PassthroughClaim>("first", "default");
            if (byChart)
                await UninstallationWaitsAsync(server, folder, host);
            await UntilAsync(
                client,
                () => client.GetAsync<PciNode>(Node),
                n => n.Spec.Assignments is not { Count: > 0 } && n.Status?.Assignments is not { Count: > 0 },
                agent,
                controller
            );
            string journal = Path.Combine(host, "var/lib/pcioperator/journal");
            Assert.Empty(Directory.Exists(journal) ? Directory.GetFiles(journal) : []);
            Assert.True(controller.Runs && agent.Runs);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task The_arm64_agent_starts()
    {
        await using Image.Mounted files = await Image.MountAsync("localhost/pcioperator/agent:test-arm64");
        var start = new ProcessStartInfo(
            "qemu-aarch64-static",
            ["-L", files.Root, Path.Combine(files.Root, "app/pcioperator-agent"), "--version"]
        )
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        Assert.Matches(@"^\d+\.\d+\.\d+", (await Image.RunAsync(start)).Trim());
    }

    /// <summary>A machine with one VF, which its administrator has bound to vfio-pci: files in which nothing has to answer a write.</summary>
    private static void MakeHost(string root)
    {
        SimulatedHost host = new SimulatedHostBuilder()
            .NumaNode(0, "0-3", 0)
            .Add(
                new SimulatedFunction
                {
                    Address = Address,
                    Ids = "8086:10ca",
                    Class = 0x020000,
                    Numa = 0,
                }
            )
            .Build();
        host.Change(Address, f => f.Driver = "vfio-pci");
        host.CopyTo(root);
        string dev = Path.Combine(root, "dev");
        Directory.CreateDirectory(Path.Combine(dev, "vfio"));
        string group = Path.GetFileName(host.Files.ReadLink($"/sys/bus/pci/devices/{Address}/iommu_group")!);
        (string Name, int Major, int Minor)[] nodes =
        [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("urandom", 1, 9),
            ("vfio/vfio", 10, 196),
            ($"vfio/{group}", 240, 0),
        ];
        foreach ((string name, int major, int minor) in nodes)
            Process.Start("mknod", ["-m", "666", Path.Combine(dev, name), "c", $"{major}", $"{minor}"]).WaitForExit();
    }

    private static async Task OfferAsync(EntityClient client)
    {
        await client.CreateAsync(
            new PciDeviceSpec
            {
                Metadata = new V1ObjectMeta { Name = "vfs" },
                Spec = new PciDeviceSpecSpec
                {
                    Devices = [new DeviceSelectorSpec { VendorId = "8086", ProductId = "10ca" }],
                    Managed = false,
                    Reset = Core.ResetMode.Skip,
                },
            }
        );
        await client.CreateAsync(
            new PciAlias
            {
                Metadata = new V1ObjectMeta { Name = "vf" },
                Spec = new PciAliasSpec { Devices = [new AliasDevice { VendorId = "8086", ProductId = "10ca" }] },
            }
        );
    }

    private static Task ClaimAsync(EntityClient client) =>
        client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new V1ObjectMeta { Name = "first", NamespaceProperty = "default" },
                Spec = new PassthroughClaimSpec
                {
                    Delivery = Delivery.None,
                    Requests =
                    [
                        new ClaimRequest
                        {
                            Name = "nic",
                            Alias = "vf",
                            Count = 1,
                        },
                    ],
                },
            }
        );

    private static async Task PluginShowsAsync(TestApiServer server, DirectoryInfo folder, string host)
    {
        IReadOnlyList<YamlMappingNode> job = Helm.Read(
            await File.ReadAllTextAsync(Path.Combine(Kubectl.Repository, "config", "samples", "kubectl-pci", "job.yaml"))
        );
        await ApplyAsync(server, job);
        await using Container plugin = await StartAsync(server, folder, Template(job, "Job"), "kubectl-pci", host);
        Assert.True(await plugin.EndAsync() == 0, plugin.Said);
        Assert.Matches("(?m)^default +first ", plugin.Said);
    }

    private static async Task UninstallationWaitsAsync(TestApiServer server, DirectoryInfo folder, string host)
    {
        IReadOnlyList<YamlMappingNode> hooks = await Helm.HooksAsync(Chart);
        await ApplyAsync(server, hooks);
        await using Container job = await StartAsync(server, folder, Template(hooks, "Job"), "controller", host);
        Assert.True(await job.EndAsync() == 0, job.Said);
    }

    private static Task<Container> StartAsync(
        TestApiServer server,
        DirectoryInfo folder,
        YamlMappingNode workload,
        string image,
        string host
    )
    {
        YamlMappingNode template = Pod.Map(Pod.Map(workload, "spec")!, "template")!;
        string ns = Pod.Text(Pod.Map(workload, "metadata")!, "namespace")!;
        string account = Pod.Text(Pod.Map(template, "spec")!, "serviceAccountName")!;
        string name = $"{Pod.Text(Pod.Map(workload, "metadata")!, "name")}-0";
        DirectoryInfo secrets = folder.CreateSubdirectory("secrets-" + name);
        bool onNode = Pod.Text(workload, "kind") == "DaemonSet";
        File.WriteAllText(Path.Combine(secrets.FullName, "token"), $"system:serviceaccount:{ns}:{account}{(onNode ? "@" + Node : "")}");
        File.WriteAllText(Path.Combine(secrets.FullName, "namespace"), ns);
        File.WriteAllText(
            Path.Combine(secrets.FullName, "ca.crt"),
            string.Concat(server.Configuration.SslCaCerts.Select(c => c.ExportCertificatePem() + "\n"))
        );
        // Written for whoever the image's user is, as the kubelet does.
        folder.UnixFileMode |= UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
        var facts = new PodFacts(name, ns, Guid.NewGuid().ToString(), Node, host, secrets.FullName, new Uri(server.Configuration.Host));
        return Container.StartAsync(
            $"localhost/pcioperator/{image}:test",
            (configuration, root) => Pod.Configuration(template, configuration, root, facts)
        );
    }

    private static async Task HealthyAsync(YamlMappingNode workload, Container container)
    {
        YamlMappingNode template = Pod.Map(Pod.Map(workload, "spec")!, "template")!;
        using var http = new HttpClient();
        foreach (string probe in new[] { "startupProbe", "livenessProbe", "readinessProbe" })
        {
            (int port, string path) = Pod.Probe(template, probe);
            var began = Stopwatch.StartNew();
            while (true)
            {
                string answer;
                try
                {
                    HttpResponseMessage response = await http.GetAsync(new Uri($"http://127.0.0.1:{port}{path}"));
                    if (response.IsSuccessStatusCode)
                        break;
                    answer = $"{response.StatusCode} {await response.Content.ReadAsStringAsync()}";
                }
                catch (HttpRequestException e)
                {
                    answer = e.Message;
                }

                Assert.True(container.Runs && began.Elapsed < Patience, $"{probe}: {answer}\n{container.Said}");
                await Task.Delay(100);
            }
        }
    }

    private static async Task<T> UntilAsync<T>(EntityClient client, Func<Task<T?>> read, Func<T, bool> holds, params Container[] containers)
        where T : class
    {
        var began = Stopwatch.StartNew();
        while (true)
        {
            T? now = await read();
            if (now is not null && holds(now))
                return now;
            Assert.True(began.Elapsed < Patience, $"{await StateAsync(client)}\n{string.Join('\n', containers.Select(c => c.Said))}");
            await Task.Delay(50);
        }
    }

    /// <summary>What the claims wait for, and what the node says of its devices.</summary>
    private static async Task<string> StateAsync(EntityClient client) =>
        string.Join(
            '\n',
            (await client.ListAsync<PassthroughClaim>())
                .Items.SelectMany(c => c.Status?.Conditions ?? [])
                .Concat((await client.ListAsync<PciNode>()).Items.SelectMany(n => n.Status?.Conditions ?? []))
                .Select(c => $"{c.Type}={c.Status} {c.Reason}: {c.Message}")
                .Concat(
                    (await client.ListAsync<PciNode>())
                        .Items.SelectMany(n => n.Status?.Devices ?? [])
                        .Select(d => $"{d.Address} {d.State}: {d.Reason}")
                )
        );

    private static async Task ApplyAsync(TestApiServer server, IEnumerable<YamlMappingNode> objects)
    {
        (int code, string said) = await Kubectl.TryApplyAsync(server.KubeconfigText, Helm.Text(objects));
        Assert.True(code == 0, said);
    }

    private static async Task<IReadOnlyList<YamlMappingNode>> KustomizedAsync() =>
        Helm.Read(await Kubectl.RunAsync("{}", "kustomize", Path.Combine(Kubectl.Repository, "config")));

    private static YamlMappingNode Template(IEnumerable<YamlMappingNode> objects, string kind) =>
        objects.Single(o => Pod.Text(o, "kind") == kind);

    private static bool SeesFirstProcess()
    {
        try
        {
            return new FileInfo("/proc/1/ns/net").LinkTarget is not null;
        }
        catch (UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static void NeedsRoot()
    {
        if (!Environment.IsPrivilegedProcess)
            Requirement.IsMissing("Containers are started by root.");
    }
}
