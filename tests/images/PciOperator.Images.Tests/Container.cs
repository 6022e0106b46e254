using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;

namespace PciOperator.Images.Tests;

/// <summary>A container that runc runs.</summary>
internal sealed class Container : IAsyncDisposable
{
    private readonly string _id = $"pcioperator-test-{Guid.NewGuid():n}";
    private readonly DirectoryInfo _bundle = Directory.CreateTempSubdirectory("pcioperator-bundle-");
    private readonly StringBuilder _said = new();
    private readonly Image.Mounted _image;
    private Process? _process;

    private Container(Image.Mounted image) => _image = image;

    /// <summary>What it has printed.</summary>
    public string Said
    {
        get
        {
            lock (_said)
                return _said.ToString();
        }
    }

    /// <summary>Whether it runs still.</summary>
    public bool Runs => _process is { HasExited: false };

    /// <summary>Starts a container of an image.</summary>
    /// <param name="image">The image's name.</param>
    /// <param name="configuration">Its OCI configuration, by what the image says and the folder with its files.</param>
    public static async Task<Container> StartAsync(string image, Func<ImageConfiguration, string, JsonObject> configuration)
    {
        ImageConfiguration own = await Image.InspectAsync(image);
        var container = new Container(await Image.MountAsync(image));
        try
        {
            JsonObject config = configuration(own, container._image.Root);
            await File.WriteAllTextAsync(Path.Combine(container._bundle.FullName, "config.json"), config.ToJsonString());
            container.Run();
            return container;
        }
        catch
        {
            await container.DisposeAsync();
            throw;
        }
    }

    /// <summary>A line of its first process' /proc/PID/status, as the kernel says it.</summary>
    public async Task<string> StatusAsync(string field)
    {
        string state = await Image.RunAsync(Runc("state", _id));
        int pid = (int)JsonNode.Parse(state)!["pid"]!;
        return (await File.ReadAllLinesAsync($"/proc/{pid}/status"))
            .Single(l => l.StartsWith(field + ":", StringComparison.Ordinal))[(field.Length + 1)..]
            .Trim();
    }

    /// <summary>Waits until it ends; its exit code.</summary>
    public async Task<int> EndAsync()
    {
        await _process!.WaitForExitAsync();
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is { HasExited: false })
        {
            await Image.RunAsync(Runc("kill", _id, "KILL"));
            await _process.WaitForExitAsync();
        }

        _process?.Dispose();
        await _image.DisposeAsync();
        _bundle.Delete(recursive: true);
    }

    private void Run()
    {
        _process = new Process { StartInfo = Runc("run", "--bundle", _bundle.FullName, _id) };
        _process.OutputDataReceived += Keep;
        _process.ErrorDataReceived += Keep;
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    private void Keep(object sender, DataReceivedEventArgs line)
    {
        lock (_said)
            _said.AppendLine(line.Data);
    }

    private static ProcessStartInfo Runc(params string[] arguments) =>
        new("runc", arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
}
