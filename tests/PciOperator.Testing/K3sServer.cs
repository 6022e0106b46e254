using System.Diagnostics.CodeAnalysis;
using System.Text;
using Docker.DotNet;
using Docker.DotNet.Models;
using DotNet.Testcontainers.Builders;
using DotNet.Testcontainers.Configurations;
using DotNet.Testcontainers.Containers;
using DotNet.Testcontainers.Images;
using k8s.Models;
using PciOperator.Kubernetes;
using Testcontainers.K3s;

namespace PciOperator.Testing;

/// <summary>
/// k3s in a container: its API server and its controllers, without kubelet, scheduler and what else it brings; nodes are those that tests
/// make. Nothing is pulled: where there is no engine or no image, the test is skipped. An image that holds the test API server can stand in
/// for k3s' own (tests/docker-for-tests).
/// </summary>
internal sealed class K3sServer : IAsyncDisposable
{
    private const string Repository = "rancher/k3s";

    /// <summary>How the reason of each such skip begins. tests/run knows it: this skip alone is no failure in CI.</summary>
    private const string NoK3s = "No k3s in Docker: ";

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly IContainer _container;

    static K3sServer() =>
        // The resource reaper is an image of its own, which would be pulled; containers are removed when they stop.
        TestcontainersSettings.ResourceReaperEnabled = false;

    private K3sServer(Image image)
    {
        IsTestBinary = image.IsTestBinary;
        _container = Build(image);
    }

    /// <summary>A kubeconfig of its administrator, for this host.</summary>
    public string KubeconfigText { get; private set; } = "";

    /// <summary>Whether it is the test API server in one binary.</summary>
    public bool IsTestBinary { get; }

    /// <summary>Starts one.</summary>
    /// <exception cref="InvalidOperationException">It does not start; the message has its log's end.</exception>
    public static async Task<K3sServer> StartAsync()
    {
        var server = new K3sServer(await FindImageAsync());
        try
        {
            await server._container.StartAsync();
            return server;
        }
        catch (Exception e)
        {
            (_, string log) = await server.LogAsync();
            await server.DisposeAsync();
            throw new InvalidOperationException($"k3s ({server._container.Image.FullName}) did not become ready: {e.Message}\n{log}", e);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _container.DisposeAsync();

    // Testcontainers waits for the ports that K3sBuilder publishes; on the host's network there is nothing to publish.
    private IContainer Build(Image image) =>
        image.OnHostNetwork
            ? Configured(new ContainerBuilder(image.Name), ServerProcess.FreePort())
                .WithCreateParameterModifier(parameters => parameters.HostConfig!.NetworkMode = "host")
                .Build()
            : Configured(new K3sBuilder(image.Name), K3sBuilder.KubeSecurePort).Build();

    private T Configured<T, TContainer, TConfiguration>(IContainerBuilder<T, TContainer, TConfiguration> builder, int port)
        where T : IContainerBuilder<T, TContainer, TConfiguration>
        where TContainer : IContainer
        where TConfiguration : IContainerConfiguration =>
        builder
            .WithImagePullPolicy(PullPolicy.Never)
            .WithAutoRemove(true)
            .WithCommand(
                new OverwriteEnumerable<string>([
                    "server",
                    $"--https-listen-port={port}",
                    "--disable=traefik,coredns,servicelb,local-storage,metrics-server",
                    "--disable-agent",
                    "--disable-scheduler",
                    "--disable-cloud-controller",
                    "--disable-network-policy",
                    "--flannel-backend=none",
                    // Nodes that tests make have no kubelet: nobody is to find them dead.
                    "--kube-controller-manager-arg=controllers=*,-nodeipam,-nodelifecycle",
                ])
            )
            // The builder asks for all rights, for the kubelet.
            .WithCreateParameterModifier(parameters => parameters.HostConfig!.Privileged = false)
            // The builder's own waits for a line about the kubelet's node.
            .WithWaitStrategy(Wait.ForUnixContainer().AddCustomWaitStrategy(new Serves(this), wait => wait.WithTimeout(Patience)));

    private async Task<string> ReadKubeconfigAsync() =>
        _container is K3sContainer published
            ? await published.GetKubeconfigAsync()
            : Encoding.UTF8.GetString(await _container.ReadFileAsync("/etc/rancher/k3s/k3s.yaml"));

    private async Task<(string Output, string Errors)> LogAsync()
    {
        try
        {
            (string output, string errors) = await _container.GetLogsAsync(timestampsEnabled: false);
            return (output, errors.Length > 4000 ? errors[^4000..] : errors);
        }
        catch (Exception e) when (e is DockerApiException or InvalidOperationException)
        {
            return ("", "");
        }
    }

    private static async Task<Image> FindImageAsync()
    {
        string name = RealServer.K3sImage ?? Repository;
        IDockerEndpointAuthenticationConfiguration engine = TestcontainersSettings.OS.DockerEndpointAuthConfig;
        if (engine is null)
            IsMissing("no engine answers. Start one, or name it by DOCKER_HOST (and, an old one, its version by DOCKER_API_VERSION).");
        using DockerClient docker = engine.GetDockerClientBuilder(Guid.NewGuid()).Build();
        IList<ImagesListResponse> images;
        try
        {
            var filter = new Dictionary<string, IDictionary<string, bool>>
            {
                ["reference"] = new Dictionary<string, bool> { [name] = true },
            };
            images = await docker.Images.ListImagesAsync(new ImagesListParameters { Filters = filter });
        }
        catch (Exception e) when (e is HttpRequestException or DockerApiException or IOException or TimeoutException)
        {
            IsMissing($"the engine at {engine.Endpoint} does not answer: {e.Message}");
            throw;
        }

        // A name without a tag is any of that repository.
        ImagesListResponse? newest = images.Where(i => i.RepoTags?.Count > 0).MaxBy(i => i.Created);
        if (newest is null)
        {
            IsMissing(
                $"the engine at {engine.Endpoint} has no image {name}, and none is pulled. Pull one, or name one that is there by PCI_TEST_K3S_IMAGE."
            );
        }

        IList<NetworkResponse> networks = await docker.Networks.ListNetworksAsync(new NetworksListParameters());
        return new Image(
            newest.RepoTags[0],
            networks.All(n => n.Name != "bridge"),
            newest.Labels?.ContainsKey("pcioperator.test-apiserver") == true
        );
    }

    /// <summary>Ends the test: skipped, also in CI, unless an image was named there: who does that has made it, and means it.</summary>
    [DoesNotReturn]
    private static void IsMissing(string why)
    {
        if (RealServer.K3sImage is not null)
            Requirement.IsMissing(NoK3s + why);
        Assert.Skip(NoK3s + why);
    }

    /// <param name="Name">With its tag.</param>
    /// <param name="OnHostNetwork">The engine has no other network.</param>
    /// <param name="IsTestBinary">It is the stand-in.</param>
    private sealed record Image(string Name, bool OnHostNetwork, bool IsTestBinary);

    /// <summary>The kubeconfig is there, and the server made the namespace that its start makes last.</summary>
    private sealed class Serves(K3sServer server) : IWaitUntil
    {
        public async Task<bool> UntilAsync(IContainer container)
        {
            try
            {
                server.KubeconfigText = await server.ReadKubeconfigAsync();
                using var client = new EntityClient(ClusterAccess.FromKubeconfigText(server.KubeconfigText));
                return await client.GetAsync<V1Namespace>("default") is not null;
            }
            catch (Exception e)
                when (e is FileNotFoundException or DockerApiException or HttpRequestException or ApiException or KubeconfigException)
            {
                // Not written yet, not listening yet, or not ready.
                return false;
            }
        }
    }
}
