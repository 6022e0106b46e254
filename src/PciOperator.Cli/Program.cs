using PciOperator.Cli;

using var io = CliIo.OfProcess();
return await CliProgram.RunAsync(args, io);
