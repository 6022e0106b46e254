using System.Diagnostics;
using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace PciOperator.Benchmarks;

/// <summary>
/// Compares clients of the API, each a published program of tests/ClientBench, against one server in this process that answers from memory,
/// so that a client's own cost is what differs. The PciNodes have 1.8 KB with managedFields.
/// </summary>
internal static class ClientComparison
{
    private const int Listed = 5000;
    private const int Events = 20_000;
    private const int Patches = 5000;
    private const int Starts = 10;

    /// <summary>Measures the programs (NAME=PATH) and prints a table.</summary>
    public static async Task<int> RunAsync(IReadOnlyList<string> programs)
    {
        await using Server server = await Server.StartAsync();
        Console.WriteLine("| client | file | RSS (anonymous) with a watch | start | watch | list of 5,000 | status patches |");
        Console.WriteLine("|---|---|---|---|---|---|---|");
        foreach ((string? name, string? path) in programs.Select(p => (p.Split('=')[0], p.Split('=')[1])))
        {
            double start = await StartAsync(server, path);
            (double rss, double anonymous) = await IdleAsync(server, path);
            (double Seconds, double Allocated, double Cpu) watch = await RunAsync(path, "watch", server.Url, Events);
            (double Seconds, double Allocated, double Cpu) list = await RunAsync(path, "list", server.Url, Listed);
            (double Seconds, double Allocated, double Cpu) patch = await RunAsync(path, "patch", server.Url, Patches);
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"| {name} | {new FileInfo(path).Length / 1e6:0.0} MB | {rss / 1e3:0.0} MB ({anonymous / 1e3:0.0}) | {start * 1e3:0} ms | {Events / watch.Seconds:0}/s, {watch.Allocated / Events / 1e3:0.0} KB each | {list.Seconds:0.00} s, {list.Allocated / 1e6:0.0} MB | {Patches / patch.Seconds:0}/s, {patch.Cpu / Patches * 1e6:0} µs CPU, {patch.Allocated / Patches / 1e3:0.0} KB each |"
                )
            );
        }

        return 0;
    }

    /// <summary>From the program's start to its first request, the median of some.</summary>
    private static async Task<double> StartAsync(Server server, string path)
    {
        var times = new List<double>();
        for (int i = 0; i < Starts; i++)
        {
            Task<long> asked = server.NextRequest();
            long started = Stopwatch.GetTimestamp();
            using Process process = Start(path, "start", server.Url, 1);
            times.Add(Stopwatch.GetElapsedTime(started, await asked).TotalSeconds);
            await process.WaitForExitAsync();
            if (process.ExitCode != 0)
                throw new InvalidOperationException($"{path} start ended with {process.ExitCode}.");
        }

        return times.Order().ElementAt(Starts / 2);
    }

    private static async Task<(double Rss, double Anonymous)> IdleAsync(Server server, string path)
    {
        // 100 events come, and then nothing more.
        using Process process = Start(path, "idle", server.Url + "/quiet", int.MaxValue);
        await Task.Delay(TimeSpan.FromSeconds(5));
        (double, double) result = (
            ProcessUsage.MemoryOf(process.Id, "VmRSS") * 1.024,
            ProcessUsage.MemoryOf(process.Id, "RssAnon") * 1.024
        );
        process.Kill();
        return result;
    }

    private static async Task<(double Seconds, double Allocated, double Cpu)> RunAsync(string path, string mode, string url, int count)
    {
        using Process process = Start(path, mode, url, count);
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{path} {mode} ended with {process.ExitCode}.");
        var numbers = output.Trim().Split(' ').Select(n => double.Parse(n, CultureInfo.InvariantCulture)).ToList();
        return (numbers[0], numbers[1], numbers[2]);
    }

    private static Process Start(string path, string mode, string url, int count) =>
        Process.Start(
            new ProcessStartInfo(path, [mode, url, count.ToString(CultureInfo.InvariantCulture)]) { RedirectStandardOutput = true }
        ) ?? throw new InvalidOperationException($"{path} did not start.");

    /// <summary>Answers from memory.</summary>
    private sealed class Server : IAsyncDisposable
    {
        private readonly WebApplication _app;
        private readonly byte[] _node = Encoding.UTF8.GetBytes(Node());
        private TaskCompletionSource<long> _asked = new();

        private Server(WebApplication app) => _app = app;

        public string Url { get; private set; } = "";

        public static async Task<Server> StartAsync()
        {
            WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(
                new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory }
            );
            builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0));
            WebApplication app = builder.Build();
            var server = new Server(app);
            app.Run(server.AnswerAsync);
            await app.StartAsync();
            server.Url = app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First();
            return server;
        }

        /// <summary>When the next request comes.</summary>
        public Task<long> NextRequest()
        {
            _asked = new TaskCompletionSource<long>(TaskCreationOptions.RunContinuationsAsynchronously);
            return _asked.Task;
        }

        private static string Node()
        {
            string devices = string.Join(
                ",",
                Enumerable
                    .Range(0, 4)
                    .Select(i =>
                        $$"""{"address":"0000:0{{i}}:00.0","vendorId":"8086","productId":"10ca","type":"type-VF","numaNode":0,"iommuGroup":{{i}},"driver":"vfio-pci","state":"available","rule":"nics"}"""
                    )
            );
            string fields = string.Join(
                ",",
                Enumerable.Range(0, 4).Select(i => $$$"""{"k:{\"address\":\"0000:0{{{i}}}:00.0\"}":{} }""").Select(f => f[1..^2])
            );
            return $$$"""{"apiVersion":"pcioperator.io/v1alpha1","kind":"PciNode","metadata":{"name":"node-0","uid":"8d8a1a51-6c3c-4f0c-9a51-3f0c4a1d5e0a","resourceVersion":"5","generation":3,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"kubernetes.io/hostname":"node-0","topology.kubernetes.io/zone":"a"},"managedFields":[{"manager":"pcioperator-agent","operation":"Update","apiVersion":"pcioperator.io/v1alpha1","time":"2026-01-01T00:00:00Z","subresource":"status","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{},"f:devices":{{{{fields}}}},"f:kernelVersion":{} } } }]},"spec":{"rules":[{"name":"nics","vendorId":"8086","productId":"10ca"}]},"status":{"observedGeneration":3,"kernelVersion":"6.1.0","devices":[{{{devices}}}],"conditions":[{"type":"InventoryReady","status":"True","reason":"Scanned","message":"4 devices","observedGeneration":3,"lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"VfioReady","status":"True","reason":"Ready","message":"vfio-pci is there","observedGeneration":3,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}""";
        }

        private async Task AnswerAsync(HttpContext context)
        {
            _asked.TrySetResult(Stopwatch.GetTimestamp());
            context.Response.ContentType = "application/json";
            PipeWriter body = context.Response.BodyWriter;
            if (context.Request.Query["watch"] == "true")
            {
                bool quiet = context.Request.Path.StartsWithSegments("/quiet", StringComparison.Ordinal);
                byte[] line = [.. "{\"type\":\"MODIFIED\",\"object\":"u8, .. _node, .. "}\n"u8];
                for (int i = 0; i < (quiet ? 100 : Events); i++)
                    await body.WriteAsync(line, context.RequestAborted);
                await body.FlushAsync(context.RequestAborted);
                if (quiet)
                    await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
            }
            else if (context.Request.Path.Value!.EndsWith("/pcinodes", StringComparison.Ordinal))
            {
                int from = int.TryParse(context.Request.Query["continue"], CultureInfo.InvariantCulture, out int told) ? told : 0;
                int size = int.Parse(context.Request.Query["limit"].ToString(), CultureInfo.InvariantCulture);
                string next = from + size < Listed ? (from + size).ToString(CultureInfo.InvariantCulture) : "";
                await body.WriteAsync(
                    Encoding.UTF8.GetBytes(
                        $$$"""{"apiVersion":"pcioperator.io/v1alpha1","kind":"PciNodeList","metadata":{"resourceVersion":"9","continue":"{{{next}}}"},"items":["""
                    )
                );
                for (int i = 0; i < size; i++)
                {
                    if (i > 0)
                        await body.WriteAsync(","u8.ToArray());
                    await body.WriteAsync(_node);
                }

                await body.WriteAsync("]}"u8.ToArray());
            }
            else
            {
                await context.Request.Body.CopyToAsync(Stream.Null);
                await body.WriteAsync(_node);
            }
        }

        public ValueTask DisposeAsync() => _app.DisposeAsync();
    }
}
