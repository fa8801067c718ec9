from attnprof.cli.app import main

main()
