using System.Collections.Concurrent;
using System.ComponentModel;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace PciOperator.Testing;

/// <summary>A program that runs beside the tests, with a folder of its own; both are gone afterwards.</summary>
internal sealed class ServerProcess : IAsyncDisposable
{
    private const int LogLines = 40;
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _log = new();
    private readonly TaskCompletionSource<string> _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ServerProcess(Process process) => _process = process;

    /// <summary>Starts it.</summary>
    /// <param name="file">The program.</param>
    /// <param name="arguments">Its arguments.</param>
    public static ServerProcess Start(string file, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(file) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        var process = new Process { StartInfo = start, EnableRaisingEvents = true };
        var server = new ServerProcess(process);
        process.OutputDataReceived += (_, line) => server.Read(line.Data);
        process.ErrorDataReceived += (_, line) => server.Log(line.Data);
        process.Exited += (_, _) => server._ready.TrySetException(new InvalidOperationException($"{file} ended before it was ready."));
        try
        {
            process.Start();
        }
        catch (Win32Exception e)
        {
            throw new InvalidOperationException($"{file} could not be started: {e.Message}", e);
        }

        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return server;
    }

    /// <summary>Waits for the line <c>READY …</c> on its standard output and gives the rest of it.</summary>
    public async Task<string> ReadyAsync()
    {
        try
        {
            return await _ready.Task.WaitAsync(TimeSpan.FromMinutes(1));
        }
        catch (Exception e) when (e is InvalidOperationException or TimeoutException)
        {
            throw new InvalidOperationException($"{_process.StartInfo.FileName} did not become ready: {e.Message}\n{LogEnd}", e);
        }
    }

    /// <summary>The end of its log.</summary>
    public string LogEnd => string.Join('\n', _log);

    public bool HasExited => _process.HasExited;

    /// <summary>A port that is free now.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private void Read(string? line)
    {
        if (line?.StartsWith("READY ", StringComparison.Ordinal) == true)
            _ready.TrySetResult(line["READY ".Length..].Trim());
        else
            Log(line);
    }

    private void Log(string? line)
    {
        if (line is null)
            return;
        _log.Enqueue(line);
        while (_log.Count > LogLines)
            _log.TryDequeue(out _);
    }

    public async ValueTask DisposeAsync()
    {
        // A test's data are not worth an orderly end.
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}

/// <summary>A test API server in one binary: <c>BINARY -dir DIR</c> prints <c>READY DIR/kubeconfig</c>.</summary>
internal sealed class ApiServerBinary : IAsyncDisposable
{
    private readonly ServerProcess _process;
    private readonly DirectoryInfo _folder;

    private ApiServerBinary(ServerProcess process, DirectoryInfo folder, string kubeconfigText)
    {
        _process = process;
        _folder = folder;
        KubeconfigText = kubeconfigText;
    }

    public string KubeconfigText { get; }

    public static async Task<ApiServerBinary> StartAsync(string binary)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pcioperator-apiserver-");
        var process = ServerProcess.Start(binary, ["-dir", folder.FullName]);
        try
        {
            string kubeconfig = await process.ReadyAsync();
            return new ApiServerBinary(process, folder, await File.ReadAllTextAsync(kubeconfig));
        }
        catch
        {
            await process.DisposeAsync();
            folder.Delete(recursive: true);
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync();
        _folder.Delete(recursive: true);
    }
}
