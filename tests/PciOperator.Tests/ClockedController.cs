using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Validation;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Tests;

/// <summary>
/// The real controller against the sandbox's API server, with a clock that stands still until the test moves it. Nodes have ready pods of
/// agents and no agents: the test says what they report. What the controller writes is counted.
/// </summary>
internal sealed class ClockedController : IAsyncDisposable
{
    private readonly TestApiServer _server;
    private readonly SandboxCluster _cluster;
    private readonly CallCounts _calls = new();
    private readonly CancellationTokenSource _stop = new();
    private Task _running = Task.CompletedTask;

    private ClockedController(TestApiServer server, SandboxCluster cluster) => (_server, _cluster) = (server, cluster);

    public FakeTimeProvider Time { get; } = new();

    public CollectorRegistry Metrics { get; } = Prometheus.Metrics.NewCustomRegistry();

    /// <summary>An administrator's client.</summary>
    public EntityClient Client => _cluster.Client;

    /// <summary>The controller itself.</summary>
    public PciController Controller { get; private set; } = null!;

    /// <summary>Which writes (method and path) find that somebody else was quicker.</summary>
    public Func<string, bool> IsOutdated { get; set; } = _ => false;

    /// <summary>What the controller calls an error.</summary>
    public RecordedLog Log { get; } = new();

    /// <summary>What a call (method, path and query) waits for before it is sent.</summary>
    public Func<string, Task> Before { get; set; } = _ => Task.CompletedTask;

    /// <summary>How many writes (method and path) there were.</summary>
    public int Writes(Func<string, bool> which) => _calls.Writes.Count(which);

    /// <summary>A controller over so many nodes.</summary>
    public static async Task<ClockedController> StartAsync(int nodes, int workers = 8)
    {
        TestApiServer server = await TestApiServer.SandboxAsync(new() { Validators = OwnResourceRules.Validators });
        SandboxCluster cluster = await SandboxCluster.ConnectAsync(
            server.Configuration,
            new SandboxClusterOptions { Log = NullLogger.Instance }
        );
        var lab = new ClockedController(server, cluster);
        await ViewHosts.RegisterAsync(cluster.Client, nodes);
        lab.Controller = lab.Run(workers);
        for (int i = 1; i <= nodes; i++)
            await lab.UntilAsync($"the PciNode of node-{i}", () => cluster.Client.GetAsync<PciNode>($"node-{i}"), n => n.Spec.Rules is [_]);
        return lab;
    }

    /// <summary>What a node's agent says: one drive for each product.</summary>
    public Task ReportAsync(string node, string? kernel = null, params string[] products)
    {
        PciNodeStatus status = ViewHosts.Node(node, products).Status! with { KernelVersion = kernel, ObservedGeneration = 1 };
        return ReportAsync(
            node,
            status with
            {
                Conditions = [.. status.Conditions!.Select(c => c with { LastTransitionTime = Time.GetUtcNow().UtcDateTime })],
            }
        );
    }

    /// <summary>What a node's agent says.</summary>
    public Task ReportAsync(string node, PciNodeStatus status)
    {
        string json = System.Text.Json.JsonSerializer.Serialize(status, PciOperatorJsonContext.Default.PciNodeStatus);
        return Client.PatchAsync<PciNode>(node, null, EntityPatch.Json($$"""[{"op":"add","path":"/status","value":{{json}}}]"""), "status");
    }

    public Task<PassthroughClaim> ClaimAsync(string name, string alias, int count = 1, string? node = null, string ns = "default") =>
        Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = ns },
                Spec = new PassthroughClaimSpec
                {
                    NodeName = node,
                    Requests =
                    [
                        new ClaimRequest
                        {
                            Name = "r",
                            Alias = alias,
                            Count = count,
                        },
                    ],
                },
            }
        );

    /// <summary>Moves the clock on in steps, and after each lets the controller do what it does then.</summary>
    public async Task PassAsync(TimeSpan time, TimeSpan step, Func<int, Task>? afterEach = null)
    {
        for (int i = 0; i * step < time; i++)
        {
            Time.Advance(step);
            await SettleAsync();
            if (afterEach is not null)
                await afterEach(i);
        }
    }

    /// <summary>Waits for something while the clock moves slowly.</summary>
    public async Task<T> UntilAsync<T>(string what, Func<Task<T?>> read, Func<T, bool> holds)
        where T : class
    {
        for (int i = 0; ; i++)
        {
            if (await read() is { } now && holds(now))
                return now;
            Assert.True(i < 1000, $"waited in vain for {what}");
            Time.Advance(TimeSpan.FromMilliseconds(20));
            await SettleAsync();
        }
    }

    /// <summary>The sum of the samples of a metric whose line begins like that.</summary>
    public double Metric(string name)
    {
        return MetricNameTests
            .Text(Metrics)
            .Split('\n')
            .Where(l => l.StartsWith(name, StringComparison.Ordinal))
            .Sum(l => double.Parse(l[(l.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture));
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        await _cluster.DisposeAsync();
        await _server.DisposeAsync();
        _stop.Dispose();
    }

    /// <summary>Starts another controller.</summary>
    public PciController Run(int workers = 8)
    {
        var client = new EntityClient(
            _server.Configuration,
            ResourceJsonContext.WithOwnKinds,
            wrap: inner => new Calls(this, _calls, inner),
            userAgent: "pcioperator-controller",
            fieldManager: "pcioperator-controller",
            logger: Log
        );
        var events = new EventRecorder(client, "pcioperator-controller", "clocked", Time, Log);
        var controller = new PciController(
            client,
            LabCluster.Quick with
            {
                KickDelay = TimeSpan.FromMilliseconds(100),
                ClaimWorkers = workers,
            },
            Time,
            Log,
            Metrics,
            events
        );
        _running = Task.WhenAll(
            _running,
            Task.Run(async () =>
            {
                using (client)
                await using (events)
                    await controller.RunAsync(_stop.Token);
            })
        );
        return controller;
    }

    /// <summary>Until no call is under way and none was made for a moment. Too short a moment would only make a count too low.</summary>
    private async Task SettleAsync()
    {
        for (int quiet = 0; quiet < 3; )
        {
            int before = Volatile.Read(ref _calls.Count);
            await Task.Delay(2);
            quiet = Volatile.Read(ref _calls.UnderWay) == 0 && Volatile.Read(ref _calls.Count) == before ? quiet + 1 : 0;
        }
    }

    /// <summary>Counts of all controllers' calls.</summary>
    private sealed class CallCounts
    {
        public int UnderWay;
        public int Count;

        public ConcurrentQueue<string> Writes { get; } = [];
    }

    private sealed class Calls(ClockedController lab, CallCounts counts, HttpMessageHandler inner) : DelegatingHandler(inner)
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref counts.Count);
            // What a test holds back is not waited for.
            await lab.Before($"{request.Method} {request.RequestUri!.PathAndQuery}").WaitAsync(cancellationToken);
            Interlocked.Increment(ref counts.UnderWay);
            try
            {
                if (request.Method == HttpMethod.Get)
                    return await base.SendAsync(request, cancellationToken);
                string write = $"{request.Method} {request.RequestUri.AbsolutePath}";
                counts.Writes.Enqueue(write);
                return lab.IsOutdated(write)
                    ? new HttpResponseMessage(HttpStatusCode.Conflict)
                    {
                        RequestMessage = request,
                        Content = new StringContent(
                            """{"kind":"Status","status":"Failure","reason":"Conflict","code":409,"message":"the object has been modified"}""",
                            Encoding.UTF8,
                            "application/json"
                        ),
                    }
                    : await base.SendAsync(request, cancellationToken);
            }
            finally
            {
                Interlocked.Decrement(ref counts.UnderWay);
            }
        }
    }
}
